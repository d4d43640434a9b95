{{- define "dnsguard.fullname" -}}
{{- if contains "dnsguard" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-dnsguard" (.Release.Name | trunc 40 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "dnsguard.webhook" -}}
{{ include "dnsguard.fullname" . }}-webhook
{{- end }}

{{- define "dnsguard.selector" -}}
app.kubernetes.io/name: dnsguard
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: webhook
{{- end }}

{{- define "dnsguard.labels" -}}
{{ include "dnsguard.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "dnsguard.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "dnsguard.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "dnsguard.webhook" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "dnsguard.secret" -}}
{{ .Values.certificate.secretName | default (printf "%s-tls" (include "dnsguard.webhook" .)) }}
{{- end }}

{{- /* The injection's values with image and upstream filled in, as YAML. */}}
{{- define "dnsguard.injection" -}}
{{- $injection := deepCopy .Values.injection }}
{{- $_ := set $injection "image" ($injection.image | default (include "dnsguard.image" .)) }}
{{- $_ := set $injection "imagePullPolicy" .Values.image.pullPolicy }}
{{- if not $injection.upstream }}
{{- range list "kube-dns" "coredns" "rke2-coredns-rke2-coredns" }}
{{- $service := lookup "v1" "Service" "kube-system" . }}
{{- if and $service (not $injection.upstream) }}
{{- $_ := set $injection "upstream" (list $service.spec.clusterIP) }}
{{- end }}
{{- end }}
{{- end }}
{{- if not $injection.upstream }}
{{- fail "injection.upstream is empty and no DNS Service was found: --set injection.upstream={10.96.0.10}, the address that `kubectl -n kube-system get service` shows for it" }}
{{- end }}
{{- toYaml $injection }}
{{- end }}

{{- define "dnsguard.excluded" -}}
{{ toYaml (append .Values.selection.excludedNamespaces .Release.Namespace | uniq) }}
{{- end }}

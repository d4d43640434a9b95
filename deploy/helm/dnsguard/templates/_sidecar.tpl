{{- /* Whether an upstream is an IPv6 address: the pods' first address is of the same family. */}}
{{- define "dnsguard.six" -}}
{{- if regexMatch `\[|^[0-9a-fA-F]*:[0-9a-fA-F]*:` (first .) }}yes{{ end }}
{{- end }}

{{- /* A size of dnsguard's settings in MiB. */}}
{{- define "dnsguard.mebibytes" -}}
{{- $number := regexFind `^[0-9]+` . | float64 }}
{{- $unit := regexFind `[A-Za-z]+$` . }}
{{- $of := dict "" 1048576.0 "B" 1048576.0 "KiB" 1024.0 "MiB" 1.0 }}
{{- if eq $unit "GiB" }}{{ mulf $number 1024.0 }}{{ else }}{{ divf $number (get $of $unit) }}{{ end }}
{{- end }}

{{- /* The sidecar as dnsguard/kube/sidecar.py makes it; a test compares the two. Takes the injection. */}}
{{- define "dnsguard.sidecar" -}}
{{- $six := eq "yes" (include "dnsguard.six" .upstream) }}
{{- $settings := dict "cache.max_bytes" "16MiB" "store.max_bytes" "32MiB" }}
{{- if ne .clusterDomain "cluster.local" }}{{ $_ := set $settings "kubernetes.domain" .clusterDomain }}{{ end }}
{{- $settings = mergeOverwrite $settings .config }}
name: dnsguard
image: {{ .image }}
imagePullPolicy: {{ .imagePullPolicy }}
args:
  - serve
  - --listen={{ $six | ternary "[::1]" "127.0.0.1" }}:53
  - --admin={{ $six | ternary "[::]" "0.0.0.0" }}:{{ .adminPort }}
  - --state-dir=/var/lib/dnsguard
  {{- range .upstream }}
  - --upstream={{ . }}
  {{- end }}
  {{- range $key := keys $settings | sortAlpha }}
  {{- $value := toString (get $settings $key) }}
  {{- if eq $value "true" }}{{ $value = "on" }}{{ else if eq $value "false" }}{{ $value = "off" }}{{ end }}
  - {{ printf "--set=%s=%s" $key $value | quote }}
  {{- end }}
{{- if and (not (has (toString (get $settings "kubernetes.autopath" | default "off")) (list "off" "false"))) (not (hasKey $settings "kubernetes.namespace")) }}
env:
  - name: DNSGUARD_KUBERNETES__NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end }}
ports:
  - {name: dnsguard-admin, containerPort: {{ .adminPort }}, protocol: TCP}
resources:
  requests: {cpu: {{ .cpuRequest | quote }}, memory: {{ .memoryRequest | quote }}}
  limits:
    {{- with .cpuLimit }}
    cpu: {{ . | quote }}
    {{- end }}
    memory: {{ .memoryLimit | default (printf "%dMi" (include "dnsguard.mebibytes" (get $settings "cache.max_bytes") | float64 | addf 48 | mulf 1.25 | ceil | int)) }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
  {{- with .runAsUser }}
  runAsGroup: {{ int . }}
  runAsUser: {{ int . }}
  {{- end }}
{{- range $kind, $probe := dict "startupProbe" (list "/readyz" 1 60) "livenessProbe" (list "/livez" 10 3) "readinessProbe" (list "/readyz" 10 3) }}
{{ $kind }}:
  httpGet: {path: {{ index $probe 0 }}, port: {{ $.adminPort }}}
  periodSeconds: {{ index $probe 1 }}
  timeoutSeconds: 2
  failureThreshold: {{ index $probe 2 }}
{{- end }}
volumeMounts:
  - {name: dnsguard-state, mountPath: /var/lib/dnsguard}
  - {name: dnsguard-state, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, subPath: no-token, readOnly: true}
restartPolicy: Always
{{- end }}

{{- define "dnsguard.volume" -}}
{{- $store := get (mergeOverwrite (dict "store.max_bytes" "32MiB") .config) "store.max_bytes" }}
name: dnsguard-state
emptyDir: {sizeLimit: {{ printf "%dMi" (include "dnsguard.mebibytes" $store | float64 | addf 8 | mulf 2 | addf 16 | ceil | int) }}}
{{- end }}

{{- /* A value as a CEL literal. What maps hold is dyn, as CEL wants the values of one map alike. */}}
{{- define "dnsguard.cel" -}}
{{- if kindIs "map" . }}{
{{- $first := true }}
{{- range $key, $value := . }}{{ if not $first }}, {{ end }}{{ $first = false }}{{ toJson $key }}: dyn({{ include "dnsguard.cel" $value }}){{ end -}}
}
{{- else if kindIs "slice" . }}[
{{- range $at, $value := . }}{{ if $at }}, {{ end }}{{ include "dnsguard.cel" $value }}{{ end -}}
]
{{- else if kindIs "float64" . }}{{ int . }}
{{- else }}{{ toJson . }}{{ end }}
{{- end }}

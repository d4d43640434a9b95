{{- define "dnsguard.node" -}}
{{ include "dnsguard.fullname" . }}-node
{{- end }}

{{- define "dnsguard.nodeSelector" -}}
{{ include "dnsguard.selector" . | replace "component: webhook" "component: node" }}
{{- end }}

{{- define "dnsguard.nodeLabels" -}}
{{ include "dnsguard.labels" . | replace "component: webhook" "component: node" }}
{{- end }}

{{- define "dnsguard.nodeUpstream" -}}
{{ include "dnsguard.fullname" . }}-upstream
{{- end }}

{{- /* Flags that name whom to ask. The kubelet fills in the Service's address: no API, no DNS is asked. */}}
{{- define "dnsguard.nodeUpstreams" -}}
{{- range .Values.node.upstream }}
- --upstream={{ . }}
{{- else }}
- --upstream=$({{ include "dnsguard.nodeUpstream" . | upper | replace "-" "_" | replace "." "_" }}_SERVICE_HOST)
{{- end }}
{{- end }}

{{- define "dnsguard.nodeAddresses" -}}
{{- toYaml (without (list .Values.node.address .Values.node.serviceAddress) "") }}
{{- end }}

{{- /* The flags of `dnsguard node setup` and `watch`. */}}
{{- define "dnsguard.nodePlace" -}}
- --address={{ .Values.node.address }}
{{- with .Values.node.serviceAddress }}
- --service-address={{ . }}
{{- end }}
- --interface={{ .Values.node.interface }}
- --rules={{ .Values.node.rules }}
{{- include "dnsguard.nodeUpstreams" . }}
{{- end }}

{{- /* The settings of the resolver as flags; takes a list of the root and what is set besides. */}}
{{- define "dnsguard.nodeSettings" -}}
{{- $root := index . 0 }}
{{- $settings := dict "workers" (int $root.Values.node.workers) }}
{{- if ne $root.Values.injection.clusterDomain "cluster.local" }}{{ $_ := set $settings "kubernetes.domain" $root.Values.injection.clusterDomain }}{{ end }}
{{- $settings = mergeOverwrite $settings (index . 1) $root.Values.node.config }}
{{- range $key := keys $settings | sortAlpha }}
{{- $value := toString (get $settings $key) }}
{{- if eq $value "true" }}{{ $value = "on" }}{{ else if eq $value "false" }}{{ $value = "off" }}{{ end }}
- {{ printf "--set=%s=%s" $key $value | quote }}
{{- end }}
{{- end }}

{{- /* Root, because only root binds port 53 on the host's network; with one capability and nothing else. */}}
{{- define "dnsguard.nodeSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
  add: [{{ join ", " . }}]
readOnlyRootFilesystem: true
runAsUser: 0
runAsGroup: 0
{{- end }}

{{- /* Takes the port, and the path that says that the process has started, if that is asked over HTTP. */}}
{{- define "dnsguard.nodeProbes" -}}
{{- if index . 1 }}
startupProbe:
  httpGet: {path: {{ index . 1 }}, port: {{ index . 0 }}}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 60
{{- end }}
livenessProbe:
  httpGet: {path: /livez, port: {{ index . 0 }}}
  periodSeconds: 10
  timeoutSeconds: 2
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: {{ index . 0 }}}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 3
{{- end }}

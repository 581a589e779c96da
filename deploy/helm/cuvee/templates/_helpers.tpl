{{- define "cuvee.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "cuvee.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "cuvee.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "cuvee.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "cuvee.selector" -}}
app.kubernetes.io/name: {{ include "cuvee.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "cuvee.gatewaySelector" -}}
{{ include "cuvee.selector" . }}
app.kubernetes.io/component: gateway
{{- end }}

{{- define "cuvee.labels" -}}
{{ include "cuvee.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "cuvee.serviceAccountName" -}}
{{- default (ternary (include "cuvee.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "cuvee.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* The configuration as the gateway reads it: text as it is, a mapping with what the chart fills in. */}}
{{- define "cuvee.configuration" -}}
{{- if kindIs "string" .Values.config }}
{{- .Values.config }}
{{- else if and (not .Values.config) (not .Values.existingConfigMap) (not .Values.redis.enabled) }}
{{- .Files.Get "files/example.yaml" }}
{{- else }}
{{- $config := deepCopy (default dict .Values.config) }}
{{- if and (not $config) (not .Values.existingConfigMap) }}
{{- $config = fromYaml (.Files.Get "files/example.yaml") }}
{{- end }}
{{- $gateway := deepCopy (default dict $config.gateway) }}
{{- range $key := list "host" "admin_host" }}
{{- if not (hasKey $gateway $key) }}{{ $_ := set $gateway $key "0.0.0.0" }}{{ end }}
{{- end }}
{{- if .Values.redis.enabled }}
{{- $cluster := deepCopy (default dict $gateway.cluster) }}
{{- if not $cluster.redis }}
{{- $_ := set $cluster "redis" (include "cuvee.redisUrl" .) }}
{{- if .Values.redis.existingSecret }}
{{- $_ := set $cluster "password_file" (printf "/etc/cuvee/redis/%s" .Values.redis.secretKey) }}
{{- end }}
{{- end }}
{{- $_ := set $gateway "cluster" $cluster }}
{{- end }}
{{- $_ := set $config "gateway" $gateway }}
{{- toYaml $config }}
{{- end }}
{{- end }}

{{- define "cuvee.redisUrl" -}}
redis://{{ include "cuvee.fullname" . }}-redis:6379/0
{{- end }}

{{- /* Of the section `gateway`: ports, how to probe, and seconds to drain. */}}
{{- define "cuvee.facts" -}}
{{- $gateway := default dict (fromYaml (include "cuvee.configuration" .)).gateway }}
{{- $tls := default dict $gateway.tls }}
{{- $adminTls := default dict $gateway.admin_tls }}
port: {{ default 8000 $gateway.port | int }}
adminPort: {{ default 8790 $gateway.admin_port | int }}
scheme: {{ ternary "HTTPS" "HTTP" (not (empty $tls)) }}
adminScheme: {{ ternary "HTTPS" "HTTP" (not (empty $adminTls)) }}
probe: {{ if not $tls.client_ca }}http{{ else if not $adminTls.client_ca }}admin{{ else }}tcp{{ end }}
clustered: {{ not (empty $gateway.cluster) }}
{{- $delay := ternary $gateway.drain_delay_s 5 (hasKey $gateway "drain_delay_s") }}
{{- $drain := ternary $gateway.drain_s 30 (hasKey $gateway "drain_s") }}
graceSeconds: {{ ceil (addf .Values.preStopSeconds $delay $drain 15) | int }}
{{- end }}

{{- /* Whether there may be more than one gateway. */}}
{{- define "cuvee.several" -}}
{{- if .Values.autoscaling.enabled }}{{ if gt (int .Values.autoscaling.maxReplicas) 1 }}yes{{ end }}
{{- else if .Values.keda.enabled }}{{ if gt (int .Values.keda.maxReplicaCount) 1 }}yes{{ end }}
{{- else if gt (int .Values.replicaCount) 1 }}yes{{ end }}
{{- end }}

{{- /* A probe: path, and the settings of the values. */}}
{{- define "cuvee.probe" -}}
{{- $facts := fromYaml (include "cuvee.facts" .root) -}}
{{- if eq $facts.probe "tcp" -}}
tcpSocket: {port: http}
{{- else if eq $facts.probe "admin" -}}
httpGet: {path: {{ .path }}, port: admin, scheme: {{ $facts.adminScheme }}}
{{- else -}}
httpGet: {path: {{ .path }}, port: http, scheme: {{ $facts.scheme }}}
{{- end }}
{{- with .settings }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Adds a rule to `rules`, a dict by namespace; names of one rule are collected. */}}
{{- define "cuvee.addRule" -}}
{{- $own := default dict (get .rules .namespace) }}
{{- $key := printf "%s/%s/%s/%t" .group .resource (join "," .verbs) (not (empty .name)) }}
{{- $rule := default (dict "apiGroups" (list .group) "resources" (list .resource) "verbs" .verbs) (get $own $key) }}
{{- if .name }}
{{- $_ := set $rule "resourceNames" (append (default list $rule.resourceNames) .name | uniq | sortAlpha) }}
{{- end }}
{{- $_ := set $own $key $rule }}
{{- $_ := set .rules .namespace $own }}
{{- end }}

{{- /* What the gateway asks of the API server, as rules by namespace, and `nodes` if it gets nodes. */}}
{{- define "cuvee.rules" -}}
{{- $own := .Release.Namespace }}
{{- $rules := dict }}
{{- $nodes := false }}
{{- $look := list "list" "watch" }}
{{- $change := list "get" "patch" }}
{{- $kinds := dict "Deployment" "apps/deployments" "StatefulSet" "apps/statefulsets" "ReplicaSet" "apps/replicasets"
    "LeaderWorkerSet" "leaderworkerset.x-k8s.io/leaderworkersets"
    "StormService" "orchestration.aibrix.ai/stormservices" "RayClusterFleet" "orchestration.aibrix.ai/rayclusterfleets" }}
{{- $config := fromYaml (include "cuvee.configuration" .) }}
{{- range $pool := (default dict $config.pools) }}
{{- $found := default dict (default dict $pool.discover).kubernetes }}
{{- $namespace := default $own $found.namespace }}
{{- if and $found (not $found.api_server) }}
{{- if or $found.selector $found.inference_pool }}
{{- include "cuvee.addRule" (dict "rules" $rules "namespace" $namespace "group" "" "resource" "pods" "verbs" $look "name" "") }}
{{- end }}
{{- if $found.service }}
{{- include "cuvee.addRule" (dict "rules" $rules "namespace" $namespace "group" "discovery.k8s.io" "resource" "endpointslices" "verbs" $look "name" "") }}
{{- end }}
{{- if $found.inference_pool }}
{{- $group := ternary "inference.networking.x-k8s.io" "inference.networking.k8s.io" (eq (default "v1" $found.inference_pool_version) "v1alpha2") }}
{{- include "cuvee.addRule" (dict "rules" $rules "namespace" $namespace "group" $group "resource" "inferencepools" "verbs" $look "name" "") }}
{{- end }}
{{- if $found.nodes }}{{ $nodes = true }}{{ end }}
{{- end }}
{{- $scaled := default dict (default dict $pool.scale).kubernetes }}
{{- $namespace = default $own $scaled.namespace }}
{{- if and $scaled (not $scaled.api_server) }}
{{- $known := splitList "/" (default "apps/deployments" (get $kinds (default "Deployment" $scaled.kind))) }}
{{- $version := default "" $scaled.api_version }}
{{- $group := ternary (first (splitList "/" $version)) (first $known) (contains "/" $version) }}
{{- $plural := default (last $known) $scaled.plural }}
{{- include "cuvee.addRule" (dict "rules" $rules "namespace" $namespace "group" $group "resource" (printf "%s/scale" $plural) "verbs" $change "name" $scaled.name) }}
{{- if $scaled.mark_leaving }}
{{- include "cuvee.addRule" (dict "rules" $rules "namespace" $namespace "group" "" "resource" "pods" "verbs" (list "list" "patch") "name" "") }}
{{- end }}
{{- end }}
{{- end }}
{{- range $weights := (default list $config.weights) }}
{{- if not $weights.api_server }}
{{- include "cuvee.addRule" (dict "rules" $rules "namespace" (default $own $weights.namespace) "group" "gateway.networking.k8s.io" "resource" "httproutes" "verbs" $change "name" $weights.http_route) }}
{{- end }}
{{- end }}
{{- $lists := dict }}
{{- range $namespace, $keyed := $rules }}
{{- $list := list }}
{{- range $key := keys $keyed | sortAlpha }}{{ $list = append $list (get $keyed $key) }}{{ end }}
{{- $_ := set $lists $namespace $list }}
{{- end }}
{{- range $namespace, $more := .Values.rbac.extraRules }}
{{- $_ := set $lists $namespace (concat (default list (get $lists $namespace)) $more) }}
{{- end }}
{{- toYaml (dict "rules" $lists "nodes" $nodes) }}
{{- end }}

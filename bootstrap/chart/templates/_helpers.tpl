{{/* What the set is called: what Kubernetes takes as the name of a Service, and short enough for its pods' names. */}}
{{- define "pilotmesh.name" -}}
{{- $name := .Values.name | default .Release.Name -}}
{{- if not (and (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) (le (len $name) 52)) -}}
{{- fail (printf "the name is %q but must be 1 to 52 lower-case letters, digits and dashes, beginning with a letter and not ending with a dash: choose another name for the release, or set the value `name`" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* What pods are selected by. Never add to it: selectors cannot be changed. */}}
{{- define "pilotmesh.selector" -}}
app.kubernetes.io/name: cassandra
app.kubernetes.io/instance: {{ include "pilotmesh.name" . | quote }}
{{- end -}}

{{/* What pods carry. Nothing that changes with the chart's version: that would restart every member. */}}
{{- define "pilotmesh.podLabels" -}}
{{ include "pilotmesh.selector" . }}
app.kubernetes.io/part-of: pilotmesh
{{- end -}}

{{/* What objects carry. */}}
{{- define "pilotmesh.labels" -}}
{{ include "pilotmesh.podLabels" . }}
{{ include "pilotmesh.chart" . }}
{{- end -}}

{{- define "pilotmesh.chart" -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* What pods carry that are no members: they must not be selected as such. */}}
{{- define "pilotmesh.otherPodLabels" -}}
app.kubernetes.io/part-of: pilotmesh
pilotmesh.io/set: {{ include "pilotmesh.name" . | quote }}
{{- end -}}

{{- define "pilotmesh.account" -}}
{{ include "pilotmesh.name" . }}-pilot
{{- end -}}

{{/* The Secret with the mesh keys. */}}
{{- define "pilotmesh.keys" -}}
{{- if .Values.keys -}}
{{- .Values.keys.secret -}}
{{- else -}}
{{- include "pilotmesh.name" . }}-mesh-keys
{{- end -}}
{{- end -}}

{{/* An amount as it was written: Helm reads numbers as fractions, and would print a large one with an exponent. */}}
{{- define "pilotmesh.amount" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . | toString | quote -}}
{{- else -}}
{{- toString . | quote -}}
{{- end -}}
{{- end -}}

{{/* Requests and limits, with amounts as text. */}}
{{- define "pilotmesh.resources" -}}
{{- $all := dict -}}
{{- range $kind, $amounts := . -}}
{{- $texts := dict -}}
{{- range $name, $amount := $amounts }}{{ $_ := set $texts $name (include "pilotmesh.amount" $amount | trimAll "\"") }}{{ end -}}
{{- $_ := set $all $kind $texts -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* What the sidecar gets where nothing else is asked. */}}
{{- define "pilotmesh.pilotResources" -}}
requests: { cpu: 20m, memory: 32Mi }
limits: { memory: 128Mi }
{{- end -}}

{{/* An amount of memory in bytes. */}}
{{- define "pilotmesh.bytes" -}}
{{- $units := dict "" 1 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- $text := include "pilotmesh.amount" . | trimAll "\"" -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- mulf (float64 (trimSuffix $unit $text)) (get $units $unit) | floor | int64 -}}
{{- end -}}

{{/* The heap: what is said, or by the memory limit as `pilot render` does it. */}}
{{- define "pilotmesh.heap" -}}
{{- $limit := .Values.resources.limits.memory -}}
{{- $bytes := include "pilotmesh.bytes" $limit | int64 -}}
{{- with .Values.heap -}}
{{- if gt (mul 4 (include "pilotmesh.bytes" (printf "%si" .) | int64)) (mul 3 $bytes) -}}
{{- fail (printf "heap is %s but must be at most three quarters of the memory limit (%v): lower it, or raise resources.limits.memory" . $limit) -}}
{{- end -}}
{{- . -}}
{{- else -}}
{{- $mebibytes := div $bytes 1048576 -}}
{{- $heap := max (min (div $mebibytes 2) 1024) (min (div $mebibytes 4) 8192) 1 -}}
{{- if eq (mod $heap 1024) 0 }}{{ div $heap 1024 }}G{{ else }}{{ $heap }}M{{ end -}}
{{- end -}}
{{- end -}}

{{/* The grace period in seconds. */}}
{{- define "pilotmesh.grace" -}}
{{- $text := .Values.grace | default "300s" -}}
{{- $part := dict "h" 3600 "m" 60 "s" 1 -}}
{{- $seconds := 0 -}}
{{- range $unit, $factor := $part -}}
{{- with regexFind (printf "[0-9]+%s" $unit) $text -}}
{{- $seconds = add $seconds (mul (trimSuffix $unit . | int64) $factor) -}}
{{- end -}}
{{- end -}}
{{- if or (lt $seconds 60) (gt $seconds 86400) -}}
{{- fail (printf "grace is %s but must be from 60s to 24h: write 300s for instance" $text) -}}
{{- end -}}
{{- $seconds -}}
{{- end -}}

{{/* The rules that no schema can say. */}}
{{- define "pilotmesh.check" -}}
{{- $members := int64 .Values.members -}}
{{- $bounds := ((.Values.policy).scale).bounds | default dict -}}
{{- $min := get $bounds "min" | default 1 | int64 -}}
{{- $max := get $bounds "max" | default 50 | int64 -}}
{{- if or (lt $members $min) (gt $members $max) -}}
{{- fail (printf "members is %d but must lie within policy.scale.bounds (%d to %d): change it, or the bounds" $members $min $max) -}}
{{- end -}}
{{- end -}}

{{/* One rule of spreading; nothing where it is off. An `off` without quotes comes here as false. */}}
{{- define "pilotmesh.spread" -}}
{{- $spread := .root.Values.spread | default dict -}}
{{- $apart := "preferred" -}}
{{- if hasKey $spread .over }}{{ $apart = get $spread .over | toString }}{{ end -}}
{{- if not (has $apart (list "off" "false")) }}
- maxSkew: 1
  topologyKey: {{ .key }}
  whenUnsatisfiable: {{ eq $apart "required" | ternary "DoNotSchedule" "ScheduleAnyway" }}
  labelSelector:
    matchLabels:
      {{- include "pilotmesh.selector" .root | nindent 6 }}
{{- end }}
{{- end -}}

{{/* What the restricted Pod Security level asks of a container, and a root file system that nobody writes to. */}}
{{- define "pilotmesh.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end -}}

{{/* The pilot's image and when it is pulled. */}}
{{- define "pilotmesh.pilotImage" -}}
image: {{ .Values.pilot.image | quote }}
{{- with .Values.imagePullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end -}}

{{- define "pilotmesh.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Where pods run. */}}
{{- define "pilotmesh.where" -}}
{{- with .Values.pod }}
{{- with .priorityClass }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

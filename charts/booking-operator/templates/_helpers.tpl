{{/* The name of all objects of the operator. */}}
{{- define "booking-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The name of the operator's ServiceAccount, which another tool may have created. */}}
{{- define "booking-operator.serviceAccount" -}}
{{- default (include "booking-operator.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "booking-operator.board" -}}
{{- include "booking-operator.fullname" . }}-board
{{- end -}}

{{/* The labels of all objects but those of the board. */}}
{{- define "booking-operator.labels" -}}
{{ include "booking-operator.selector" . }}
{{ include "booking-operator.common" . }}
{{- end -}}

{{- define "booking-operator.boardLabels" -}}
{{ include "booking-operator.boardSelector" . }}
{{ include "booking-operator.common" . }}
{{- end -}}

{{- define "booking-operator.common" -}}
app.kubernetes.io/part-of: booking-operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "booking-operator.selector" -}}
app.kubernetes.io/name: booking-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "booking-operator.boardSelector" -}}
app.kubernetes.io/name: booking-operator-board
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "booking-operator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Where the pods of both Deployments run, and with which secrets their images are pulled. */}}
{{- define "booking-operator.placement" -}}
{{- range $field := list "imagePullSecrets" "nodeSelector" "tolerations" "affinity" }}
{{- with get $.Values $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The user and the rights of a pod. */}}
{{- define "booking-operator.podSecurityContext" -}}
runAsNonRoot: true
{{- if not .Values.openshift }}
runAsUser: 65532
runAsGroup: 65532
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "booking-operator.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

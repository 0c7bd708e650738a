{{/* The chart's name. */}}
{{- define "linchpin.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of everything in a release: at most 63 characters, as DNS allows. */}}
{{- define "linchpin.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "linchpin.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "linchpin.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The labels by which pods are found; these never change in a release. */}}
{{- define "linchpin.selectorLabels" -}}
app.kubernetes.io/name: {{ include "linchpin.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{/* The labels of everything. */}}
{{- define "linchpin.labels" -}}
{{ include "linchpin.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "linchpin.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "linchpin.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "linchpin.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "linchpin.tlsSecret" -}}
{{- required "tls.secretName is required: name a secret with tls.crt, tls.key and ca.crt, or set tls.enabled=false to serve inside the pod only" .Values.tls.secretName -}}
{{- end -}}

{{/* What every container may not do. */}}
{{- define "linchpin.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "linchpin.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Asks the server, over its socket, what it can do. */}}
{{- define "linchpin.probe" -}}
exec:
  command: [linchpin, --endpoint, "unix:/run/linchpin/linchpin.sock", --quiet, capabilities]
periodSeconds: {{ .Values.probes.periodSeconds }}
timeoutSeconds: {{ .Values.probes.timeoutSeconds }}
{{- end -}}

{{/* The ConfigMaps that may be mounted, by the names of their folders in /etc/linchpin. */}}
{{- define "linchpin.configMaps" -}}
policy: {{ .Values.identity.policyConfigMap | quote }}
tokens: {{ .Values.identity.tokens.configMap | quote }}
storage-ca: {{ .Values.storage.caConfigMap | quote }}
{{- end }}

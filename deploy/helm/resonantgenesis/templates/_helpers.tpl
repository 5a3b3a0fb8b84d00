{{- define "resonantgenesis.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "resonantgenesis.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "resonantgenesis.labels" -}}
{{ include "resonantgenesis.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "resonantgenesis.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "resonantgenesis.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "resonantgenesis.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- /* A variable whose value lies in existingSecret: (list root variable key) */ -}}
{{- define "resonantgenesis.secret" -}}
- name: RESONANTGENESIS_{{ index . 1 }}
  valueFrom:
    secretKeyRef:
      name: {{ (index . 0).Values.existingSecret }}
      key: {{ index . 2 }}
{{- end }}

{{- define "resonantgenesis.pod" -}}
metadata:
  labels:
    {{- include "resonantgenesis.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    checksum/config: {{ sha256sum .Values.config }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "resonantgenesis.name" . }}
  automountServiceAccountToken: false
  # Else Kubernetes would set RESONANTGENESIS_PORT to tcp://… of a service of this name.
  enableServiceLinks: false
  securityContext:
    {{- include "resonantgenesis.podSecurityContext" . | nindent 4 }}
  # preStop, the drain, and what is left of answers after it.
  terminationGracePeriodSeconds: {{ add .Values.preStopSeconds .Values.drainSeconds 15 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints: {{ toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: server
      image: {{ include "resonantgenesis.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      securityContext:
        {{- include "resonantgenesis.securityContext" . | nindent 8 }}
      ports:
        - name: http
          containerPort: 8080
      env:
        - name: RESONANTGENESIS_DRAIN_SECONDS
          value: {{ .Values.drainSeconds | quote }}
        {{- if .Values.config }}
        - name: RESONANTGENESIS_CONFIG
          value: /etc/resonantgenesis/resonantgenesis.toml
        {{- end }}
        {{- if .Values.existingSecret }}
        {{- include "resonantgenesis.secret" (list . "BOOTSTRAP_KEY" "bootstrap-key") | nindent 8 }}
        {{- end }}
        {{- if .Values.postgresql.enabled }}
        {{- include "resonantgenesis.secret" (list . "STORE" "store") | nindent 8 }}
        {{- include "resonantgenesis.secret" (list . "SECRET" "secret") | nindent 8 }}
        {{- end }}
        {{- if .Values.metricsToken }}
        {{- include "resonantgenesis.secret" (list . "METRICS_TOKEN" "metrics-token") | nindent 8 }}
        {{- end }}
        {{- with .Values.extraEnv }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- with .Values.extraEnvFrom }}
      envFrom: {{ toYaml . | nindent 8 }}
      {{- end }}
      # Recovery of a large store is a start of its own.
      startupProbe:
        httpGet: { path: /livez, port: http }
        periodSeconds: 2
        failureThreshold: 150
      livenessProbe:
        httpGet: { path: /livez, port: http }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readyz, port: http }
        periodSeconds: 2
        timeoutSeconds: 5
      lifecycle:
        preStop:
          exec:
            command: [sleep, {{ .Values.preStopSeconds | quote }}]
      resources: {{ toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: data
          mountPath: /data
        - name: tmp
          mountPath: /tmp
        {{- if .Values.config }}
        - name: config
          mountPath: /etc/resonantgenesis
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 8 }}{{ end }}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- if .Values.postgresql.enabled }}
    - name: data
      emptyDir: {}
    {{- end }}
    {{- if .Values.config }}
    - name: config
      configMap:
        name: {{ include "resonantgenesis.name" . }}
    {{- end }}
    {{- with .Values.extraVolumes }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end }}

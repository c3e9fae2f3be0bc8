{{- define "portway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "portway.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "portway.labels" -}}
{{ include "portway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "portway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "portway.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "portway.tlsSecretName" -}}
{{- default (printf "%s-tls" (include "portway.fullname" .)) .Values.tls.secretName -}}
{{- end -}}

{{- /* Cluster-wide names hold the namespace too: two releases must not share a ClusterRole. */ -}}
{{- define "portway.clusterName" -}}
{{- if eq (include "portway.fullname" .) .Release.Namespace -}}
{{- .Release.Namespace -}}
{{- else -}}
{{- printf "%s-%s" .Release.Namespace (include "portway.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- /* What a certificate of our own making is for, as a YAML list. */ -}}
{{- define "portway.dnsNames" -}}
{{- $service := printf "%s.%s.svc" (include "portway.fullname" .) .Release.Namespace -}}
{{- $names := list $service (printf "%s.cluster.local" $service) -}}
{{- if .Values.domain -}}
{{- $names = append $names .Values.domain -}}
{{- range .Values.namespaces -}}
{{- $names = append $names (printf "*.%s.%s" . $.Values.domain) -}}
{{- end -}}
{{- end -}}
{{- toYaml (concat $names .Values.tls.dnsNames | uniq) -}}
{{- end -}}

{{- define "portway.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "portway.gatewayConfig" -}}
{{- $config := dict
  "tls-cert-file" "/etc/portway/tls/tls.crt"
  "tls-private-key-file" "/etc/portway/tls/tls.key"
  "authentication-config" "/etc/portway/config/authentication.yaml"
  "authentication-token-webhook" .Values.tokenReview
  "authorization-mode" .Values.authorizationMode
  "via" .Values.via
  "workers" (int .Values.workers) -}}
{{- if .Values.domain -}}{{- $_ := set $config "domain" (list .Values.domain) -}}{{- end -}}
{{- if .Values.namespaces -}}{{- $_ := set $config "namespaces" .Values.namespaces -}}{{- end -}}
{{- toYaml (merge (deepCopy .Values.config) $config) -}}
{{- end -}}

{{- define "portway.authenticationConfiguration" -}}
{{- $head := dict "apiVersion" "apiserver.config.k8s.io/v1" "kind" "AuthenticationConfiguration" -}}
{{- $said := dict -}}
{{- with .Values.oidc -}}
{{- if .issuerURL -}}
{{- if not .audiences -}}{{- fail "oidc.audiences: say what tokens must be made for" -}}{{- end -}}
{{- $issuer := dict "url" .issuerURL "audiences" .audiences -}}
{{- if gt (len .audiences) 1 -}}{{- $_ := set $issuer "audienceMatchPolicy" "MatchAny" -}}{{- end -}}
{{- if .certificateAuthority -}}{{- $_ := set $issuer "certificateAuthority" .certificateAuthority -}}{{- end -}}
{{- $claims := dict "username" (dict "claim" .usernameClaim "prefix" .usernamePrefix) -}}
{{- if .groupsClaim -}}{{- $_ := set $claims "groups" (dict "claim" .groupsClaim "prefix" .groupsPrefix) -}}{{- end -}}
{{- $jwt := dict "issuer" $issuer "claimMappings" $claims -}}
{{- $rules := list -}}
{{- range $claim, $value := .requiredClaims -}}
{{- $rules = append $rules (dict "claim" $claim "requiredValue" $value) -}}
{{- end -}}
{{- if $rules -}}{{- $_ := set $jwt "claimValidationRules" $rules -}}{{- end -}}
{{- $_ := set $said "jwt" (list $jwt) -}}
{{- end -}}
{{- end -}}
{{- if .Values.authenticationConfiguration -}}
{{- if .Values.oidc.issuerURL -}}{{- fail "oidc and authenticationConfiguration: choose one" -}}{{- end -}}
{{- $said = deepCopy .Values.authenticationConfiguration -}}
{{- end -}}
{{- $anonymous := dict "enabled" true -}}
{{- if eq .Values.anonymous "health" -}}
{{- $_ := set $anonymous "conditions" (list (dict "path" "/livez") (dict "path" "/readyz") (dict "path" "/healthz")) -}}
{{- end -}}
{{- toYaml (merge $said $head (dict "anonymous" $anonymous)) -}}
{{- end -}}

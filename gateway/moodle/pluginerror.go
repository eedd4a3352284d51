package moodle

import "regexp"

var errorCode = regexp.MustCompile(`/error/[a-z0-9_]{1,40}/([a-z0-9_]{1,60})\b`)

// pluginError returns what the page of an error says by its link to Moodle's
// documentation, for administrators.
func pluginError(body []byte) string {
	found := errorCode.FindSubmatch(body)
	if found == nil {
		return ""
	}
	code := string(found[1])
	if hint := pluginHints[code]; hint != "" {
		return ", " + code + ": " + hint
	}
	return ", " + code
}

// pluginHints says what an administrator has to look at.
var pluginHints = map[string]string{
	"shib_not_set_up_error":      "the plugin's Username is not HTTP_X_JUMPGATE_USERNAME",
	"shib_invalid_account_error": "the account is suspended, locked after wrong passwords (lockoutthreshold) or of another kind, accounts may not be created, or the plugin is not enabled",
	"notenabled":                 "the plugin OAuth 2 is not enabled (Manage authentication)",
	"issuernologin":              "the OAuth 2 service is not enabled, or not for the login page",
	"oauth2upgradetokenerror":    "Moodle did not get a token from us: its OAuth 2 service has another client id or secret, or cannot reach this site's public address",
	"nopasswordchangeforced":     "the account has to change its password first (preference auth_forcepasswordchange), and its plugin has none: take that off",
	"generalexceptionmessage":    "Moodle's log may say more; so it ends if the OAuth 2 service does not take the domain of the mail address (Login domains)",
	"invalidrecord":              "landing.issuer_id is not the number of an OAuth 2 service",
	"dmlexception":               "landing.issuer_id is not the number of an OAuth 2 service",
}

package moodletest

import (
	"crypto/subtle"
	"net/http"
	"strings"
)

const mfaPath = "/admin/tool/mfa/auth.php"

// secondFactor is tool_mfa's hook, which runs before every page: until the
// second factor is there, all roads lead to auth.php. It reports whether it
// has answered the request. Without a second factor Moodle marks each login as
// authenticated on its first page.
func (q *request) secondFactor() (answered bool) {
	data := q.s.data()
	if !q.s.loggedIn() || q.s.guest() || data.get("tool_mfa_authenticated") == true {
		return false
	}
	if q.mfaCode == "" {
		data.set("tool_mfa_authenticated", true)
		return false
	}
	switch path := q.r.URL.Path; {
	case q.s.loginAs(), path == "/login/logout.php", path == mfaPath:
		return false
	case strings.HasPrefix(path, "/lib/ajax/"):
		q.json(map[string]any{"error": "Unsupported redirect detected, script execution terminated", "errorcode": "redirecterrordetected"})
		return true
	}
	if data.text("wantsurl") == "" {
		data.set("wantsurl", q.url("/"))
	}
	data.set("tool_mfa_has_been_redirected", true)
	q.redirect(q.url(mfaPath))
	return true
}

// mfaPage asks for the second factor and, once it is right, lets the browser
// go where it wanted. The session keeps its id.
func (q *request) mfaPage() {
	if !q.requireLogin() {
		return
	}
	data, failure := q.s.data(), ""
	if q.r.Method == http.MethodPost && data.get("tool_mfa_authenticated") != true {
		code := strings.TrimSpace(q.r.PostFormValue("verificationcode"))
		switch {
		case !q.confirmSesskey():
			failure = "This page has been open for too long. Please try again."
		case subtle.ConstantTimeCompare([]byte(code), []byte(q.mfaCode)) == 1:
			data.set("tool_mfa_authenticated", true)
		default:
			failure = "Wrong code. Try again."
		}
	}
	if data.get("tool_mfa_authenticated") == true {
		target := data.text("wantsurl")
		data.unset("wantsurl")
		if target == "" {
			target = q.url("/")
		}
		q.redirect(target)
		return
	}
	q.render(http.StatusOK, "mfa.html", map[string]any{"Heading": "Verify it's you", "Failure": failure})
}

package moodle

import (
	"net/http"
	"net/url"
	"strings"
)

// Pages of Moodle that matter to a gateway, below the wwwroot's path.
const (
	PageLogin    = "/login/index.php"           // the form, and whoever completes it
	PageLoginAs  = "/course/loginas.php"        // another account in the same session id
	PagePassword = "/login/change_password.php" // where a new password is chosen
	PageMFA      = "/admin/tool/mfa/auth.php"   // where tool_mfa asks for a factor
	PageLogout   = "/login/logout.php"          // with the sesskey; without it, asks
	PageOAuth2   = "/admin/oauth2callback.php"  // a login at a provider comes back to it
	PageAJAX     = "/lib/ajax/service.php"      // what the scripts of pages call
	pageREST     = "/webservice/rest/server.php"
)

// DefaultCookie is the name of Moodle's session cookie when
// $CFG->sessioncookie, which is appended to it, is empty.
const DefaultCookie = "MoodleSession"

// RequestSession returns the session id that a request carries in the cookie
// of that name, or "" if there is none or it is not one that PHP makes. Of
// several cookies of the name PHP takes the first, whatever is in it, and none
// if one of them is an element of an array (source of PHP: main/php_variables.c);
// so does this. It allocates nothing, unless the id is written with escapes.
func RequestSession(r *http.Request, cookie string) string {
	session, found, array := "", false, false
	for _, line := range r.Header["Cookie"] {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			name, value, _ := strings.Cut(strings.TrimLeft(pair, " \t"), "=")
			rest, named := cutCookieName(name, cookie)
			switch {
			case named && strings.HasPrefix(rest, "["):
				switch depth := indexes(rest); {
				case depth > maxIndexes: // then it forgets all of the name
					session, found, array = "", false, false
				case depth > 0:
					array = true
				}
			case named && rest == "" && !found:
				session, found = value, true
			}
		}
	}
	if array {
		return ""
	}
	return sessionID(session)
}

const maxIndexes = 64 // max_input_nesting_level, unless somebody has changed it

// indexes returns how many indexes of an array PHP sees at the beginning of s. A
// "[" without an end is none.
func indexes(s string) (n int) {
	for strings.HasPrefix(s, "[") && n <= maxIndexes {
		end := strings.IndexByte(s, ']')
		if end < 0 && n < maxIndexes {
			break
		}
		n++
		s = s[end+1:]
	}
	return n
}

// sessionID returns the session id in the value of a cookie, or "" if it is none.
// PHP writes the comma of its ids as %2C, and takes any escape (source of PHP:
// ext/session/session.c, main/php_variables.c).
func sessionID(value string) string {
	sid, err := url.PathUnescape(value)
	if err != nil || !validSessionID(sid) {
		return ""
	}
	return sid
}

// cutCookieName returns what follows the name that PHP gives a cookie, in
// which blanks and dots become underscores.
func cutCookieName(s, name string) (rest string, ok bool) {
	if len(s) < len(name) {
		return "", false
	}
	for i := range len(name) {
		if s[i] != name[i] && (name[i] != '_' || s[i] != '.' && s[i] != ' ') {
			return "", false
		}
	}
	return s[len(name):], true
}

// OtherSession returns the name of a cookie that looks like Moodle's session
// cookie and is not the one of that name, or "". It is a sign that the name is
// wrong: $CFG->sessioncookie is appended to it.
func OtherSession(r *http.Request, cookie string) string {
	for _, c := range r.Cookies() {
		if c.Name != cookie && strings.HasPrefix(c.Name, DefaultCookie) {
			return c.Name
		}
	}
	return ""
}

// SetsSession reports whether an answer of Moodle's sets the session cookie of
// that name, and to which session id: "" if it deletes the cookie. Moodle sets
// a new one at every login and logout. Of several the last one wins, as in a
// browser.
func SetsSession(h http.Header, cookie string) (sid string, ok bool) {
	for _, line := range h["Set-Cookie"] {
		pair, _, _ := strings.Cut(line, ";")
		name, value, found := strings.Cut(pair, "=")
		if !found || strings.TrimSpace(name) != cookie {
			continue
		}
		sid, ok = sessionID(strings.Trim(strings.TrimSpace(value), `"`)), true // PHP deletes a cookie by setting it to "deleted"
	}
	return sid, ok
}

// validSessionID reports whether s can be a PHP session id: 22 to 256
// characters of its alphabet (session.sid_length). Only such a string may
// become part of a Redis key or a Cookie header.
func validSessionID(s string) bool {
	if len(s) < 22 || len(s) > 256 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == ',':
		default:
			return false
		}
	}
	return true
}

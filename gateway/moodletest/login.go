package moodletest

import (
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// loginPages registers the pages about logging in and out.
func (st *site) loginPages() {
	st.page("/login/index.php", (*request).loginPage)
	st.page("/login/{$}", (*request).loginPage)
	st.page("/login/logout.php", (*request).logoutPage)
	st.page("/course/loginas.php", (*request).loginAsPage)
	st.page("/admin/tool/mfa/auth.php", (*request).mfaPage)
}

// loginPage is /login/index.php, step by step as in Moodle 4.5.
func (q *request) loginPage() {
	data := q.s.data()
	if id := q.r.URL.Query().Get("testsession"); id != "" && id != "0" {
		if id == q.s.user().text("id") {
			target := data.text("wantsurl")
			data.unset("wantsurl")
			if target == "" {
				target = q.url("/")
			}
			q.redirect(target)
			return
		}
		q.loginForm("Unfortunately, cookies are currently not enabled in your browser")
		return
	}
	timedOut := data.get("has_timed_out") == true
	data.unset("has_timed_out")

	failure := ""
	if q.r.Method == http.MethodPost && q.r.PostFormValue("username") != "" {
		u, ok := q.authenticate()
		if ok {
			q.completeLogin(u)
			return
		}
		failure = "Invalid login, please try again"
	} else if timedOut && q.r.Method != http.MethodPost {
		failure = "Your session has timed out. Please log in again."
	}
	q.rememberReferer()
	data.set("loginredirect", int64(1))
	if failure != "" {
		// Moodle redirects after each password and shows the error then.
		data.set("loginerrormsg", failure)
		q.redirect(q.url("/login/index.php?loginredirect=1"))
		return
	}
	failure = data.text("loginerrormsg")
	data.unset("loginerrormsg")
	q.loginForm(failure)
}

// authenticate judges a posted user name and password. As in Moodle each
// login token is good for one attempt, and MNet accounts cannot log in here.
func (q *request) authenticate() (User, bool) {
	expected := q.s.loginToken(q.now())
	q.s.data().unset("logintoken")
	q.s.loginToken(q.now())
	if subtle.ConstantTimeCompare([]byte(q.r.PostFormValue("logintoken")), []byte(expected)) != 1 {
		return User{}, false
	}
	username := strings.ToLower(strings.TrimSpace(q.r.PostFormValue("username")))
	if q.shibboleth && username == strings.ToLower(q.serverVariable("USERNAME")) {
		if u, ok := q.shibbolethUser(username); ok { // whatever the password
			return u, true
		}
	}
	u, ok := q.users.byName(username, localHostID)
	if !ok || u.Suspended || u.Deleted {
		return User{}, false
	}
	return u, subtle.ConstantTimeCompare([]byte(q.r.PostFormValue("password")), []byte(u.Password)) == 1
}

// completeLogin gives the session to u under a new id and sends the browser
// through Moodle's test whether the cookie came back.
func (q *request) completeLogin(u User) {
	q.beginLogin(u)
	if u.ID != guestID {
		q.s.data().set("fullysetupstrict", q.now().Unix())
		q.rememberUsername()
	}
	target := q.returnURL()
	q.s.data().set("wantsurl", target)
	q.redirect(q.url("/login/index.php?testsession=" + strconv.FormatInt(u.ID, 10)))
}

// beginLogin is complete_user_login.
func (q *request) beginLogin(u User) {
	q.changeSID(u.ID)
	now := q.now()
	user := u.object(now, q.ip())
	user.set("sesskey", randomText(10, tokenAlphabet))
	user.set("preference", u.preferences(now))
	data := q.s.data()
	data.unset("loginredirect", "logintoken", "loginerrormsg", "tool_mfa_authenticated")
	if u.ID != guestID {
		data.set("userpreviousip", q.ip())
	}
	data.set("justloggedin", true)
	q.s.vars = *newArray("USER", user, "SESSION", data)
}

// rememberUsername sets MOODLEID1_, whose value is sealed with sodium and of
// no meaning to anybody else; the stand-in never reads it back.
func (q *request) rememberUsername() {
	name := "MOODLEID1_" + q.suffix
	q.cookies = append(q.cookies, q.formatCookie(name, "deleted", "; expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0"))
	sealed := base64.StdEncoding.EncodeToString([]byte(randomText(48, tokenAlphabet)))
	value := strings.NewReplacer("+", "%2B", "/", "%2F", "=", "%3D").Replace(sealed)
	expires := q.now().Add(60 * 24 * time.Hour).UTC().Format(http.TimeFormat)
	q.cookies = append(q.cookies, q.formatCookie(name, "sodium%3A"+value, "; expires="+expires+"; Max-Age=5184000"))
}

// returnURL is core_login_get_return_url: the page that was wanted, else the
// dashboard, or the front page for guests. It empties $SESSION->wantsurl.
func (q *request) returnURL() string {
	target := q.s.data().text("wantsurl")
	q.s.data().unset("wantsurl")
	if q.localURL(target) && target != q.url("/") {
		return target
	}
	if q.s.guest() {
		return q.url("/")
	}
	return q.url("/my/")
}

// rememberReferer takes the page that led to the login for the wanted one.
func (q *request) rememberReferer() {
	data := q.s.data()
	if data.text("wantsurl") != "" {
		return
	}
	data.set("wantsurl", nil)
	referer := q.r.Referer()
	if q.localURL(referer) && referer != q.url("/") && !strings.HasPrefix(referer, q.url("/login/")) {
		data.set("wantsurl", referer)
	}
}

// loginToken returns the token that the login form must send, made on first
// use and after each attempt.
func (s *session) loginToken(now time.Time) string {
	if kept, ok := s.data().get("logintoken").(*phpArray); ok {
		if inner, ok := kept.get("core_auth_login").(*phpArray); ok {
			return inner.text("token")
		}
	}
	token := randomText(32, tokenAlphabet)
	s.data().set("logintoken", newArray("core_auth_login", newArray("token", token, "created", now.Unix())))
	return token
}

// loginForm shows the form, or to people who are logged in that they are.
func (q *request) loginForm(failure string) {
	if q.s.loggedIn() && !q.s.guest() {
		q.render(http.StatusOK, "alreadyloggedin.html", map[string]any{"Heading": "Log in to the site"})
		return
	}
	q.render(http.StatusOK, "login.html", map[string]any{
		"Heading": "Log in to the site", "Failure": failure,
		"LoginToken": q.s.loginToken(q.now()), "Homes": q.loginHomes(),
	})
}

// logoutPage is /login/logout.php: the right sesskey logs out, anything else
// asks first.
func (q *request) logoutPage() {
	target := q.url("/")
	if v := q.r.FormValue("loginpage"); v != "" && v != "0" {
		target = q.url("/login/index.php")
	}
	if q.s.loggedIn() && !q.confirmSesskey() {
		q.render(http.StatusOK, "logout.html", map[string]any{"Heading": "Log out"})
		return
	}
	if q.s.loggedIn() && q.mnet != nil {
		if home := q.mnet.logout(q); home != "" {
			target = home
		}
	}
	q.logout()
	q.redirect(target)
}

// loginAsPage is /course/loginas.php: an administrator puts on somebody
// else's account, or, when wearing one, logs out.
func (q *request) loginAsPage() {
	if q.s.loginAs() {
		if !q.confirmSesskey() {
			q.fail("Your session has most likely timed out. Please log in again.")
			return
		}
		q.logout()
		q.redirect(q.url("/course/loginas.php?id=1&redirect=1"))
		return
	}
	if v := q.r.FormValue("redirect"); v == "1" {
		q.s.data().set("wantsurl", q.url("/?redirect=1"))
		q.redirect(q.url("/login/index.php"))
		return
	}
	if !q.confirmSesskey() {
		q.fail("Your session has most likely timed out. Please log in again.")
		return
	}
	if !q.requireLogin() {
		return
	}
	id, _ := strconv.ParseInt(q.r.FormValue("user"), 10, 64)
	admin, _ := q.users.byID(q.s.currentID())
	u, ok := q.users.byID(id)
	if !admin.Admin || !ok || u.Admin || u.ID == guestID {
		q.fail("You are not allowed to log in as that user")
		return
	}
	q.s.wear(&u, q.now(), q.ip())
	q.render(http.StatusOK, "notice.html", map[string]any{
		"Heading": "You are logged in as " + u.FullName(), "Message": "You are logged in as " + u.FullName(),
	})
}

// wear turns the session into one of "log in as" (session manager's loginas):
// the id and the hash's userid stay the administrator's.
func (s *session) wear(u *User, now time.Time, ip string) {
	user := u.object(now, ip)
	user.set("lastaccess", unixText(now)) // from the table, as text
	user.set("currentlogin", unixText(now))
	rest := []any{user.get("lastcourseaccess"), user.get("currentcourseaccess"), user.get("profile")}
	user.unset("lastcourseaccess", "currentcourseaccess", "profile")
	user.set("preference", u.preferences(now))
	user.set("lastcourseaccess", rest[0])
	user.set("currentcourseaccess", rest[1])
	user.set("profile", rest[2])
	user.set("realuser", s.user().text("id"))
	user.set("loginascontext", &phpObject{class: `core\context\system`, phpArray: *newArray(
		"\x00*\x00_id", int64(1), "\x00*\x00_contextlevel", int64(10), "\x00*\x00_instanceid", int64(0),
		"\x00*\x00_path", "/1", "\x00*\x00_depth", int64(1), "\x00*\x00_locked", int64(0),
	)})
	user.set("sesskey", randomText(10, tokenAlphabet))
	s.vars = *newArray(
		"REALSESSION", s.data(), "SESSION", newObject("fullysetupstrict", now.Unix()),
		"REALUSER", s.user(), "USER", user,
	)
}

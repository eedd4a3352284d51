package moodletest

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

func TestALoginGoesTheWayOfMoodle(t *testing.T) {
	h := testHome(t, func(o *HomeOptions) { o.CookieSuffix = "home" })
	b := newBrowser(t, h.wwwroot)

	a := b.get("/my/?tab=1")
	b.want(a, 303, "/login/index.php")
	if a.header.Get("X-Redirect-By") != "Moodle" {
		t.Error("a redirect does not say X-Redirect-By: Moodle")
	}
	before := b.sid()
	form := b.get("/login/index.php")
	b.want(form, 200, "")
	if b.sid() != before || len(form.header.Values("Set-Cookie")) != 0 {
		t.Error("the login page changed the session")
	}
	token := field(t, loginTokenField, form.body)
	a = b.post("/login/index.php", url.Values{"username": {" Learner1 "}, "password": {"secret"}, "logintoken": {token}})
	b.want(a, 303, "/login/index.php?testsession=3")
	cookies := a.header.Values("Set-Cookie")
	for i, prefix := range []string{
		"MoodleSessionhome=", "MOODLEID1_home=deleted; expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0; path=/; HttpOnly",
		"MOODLEID1_home=sodium%3A",
	} {
		if len(cookies) != 3 || !strings.HasPrefix(cookies[i], prefix) {
			t.Fatalf("cookies of a login: %q", cookies)
		}
	}
	if want := "MoodleSessionhome=" + b.sid() + "; path=/; HttpOnly"; cookies[0] != want {
		t.Errorf("cookie %q, want %q", cookies[0], want)
	}
	if b.sid() == before {
		t.Error("the login kept the session id")
	}
	after := b.sid()
	a = b.get(a.location)
	b.want(a, 303, "/my/?tab=1")
	b.want(b.get(a.location), 200, "")
	if b.sid() != after {
		t.Error("the session id changed after the login")
	}
	a = b.get("/login/index.php")
	b.want(a, 200, "")
	if !strings.Contains(a.body, "You are already logged in as Lena Lerner") || !strings.Contains(a.body, `"userId":3`) {
		t.Errorf("the login page of somebody who is logged in: %s", a.body)
	}
}

func TestAWrongLoginIsSentBackToTheForm(t *testing.T) {
	tests := map[string]func(url.Values){
		"wrong password":      func(v url.Values) { v.Set("password", "x") },
		"unknown user":        func(v url.Values) { v.Set("username", "nobody") },
		"suspended user":      func(v url.Values) { v.Set("username", "suspended") },
		"deleted user":        func(v url.Values) { v.Set("username", "deleted") },
		"user of a peer":      func(v url.Values) { v.Set("username", "remote") },
		"missing login token": func(v url.Values) { v.Del("logintoken") },
		"wrong login token":   func(v url.Values) { v.Set("logintoken", "x") },
	}
	h := testHome(t, func(o *HomeOptions) {
		o.Users = append(o.Users,
			User{Password: "secret", User: gateway.User{Username: "suspended", Suspended: true}},
			User{Password: "secret", User: gateway.User{Username: "deleted", Deleted: true}},
			User{Password: "secret", User: gateway.User{Username: "remote", MnetHostID: 3}})
	})
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, h.wwwroot)
			form := url.Values{"username": {"learner1"}, "password": {"secret"},
				"logintoken": {field(t, loginTokenField, b.get("/login/index.php").body)}}
			change(form)
			a := b.post("/login/index.php", form)
			b.want(a, 303, "/login/index.php?loginredirect=1")
			if a = b.get(a.location); !strings.Contains(a.body, "Invalid login, please try again") {
				t.Errorf("no error on %s", a.body)
			}
			if strings.Contains(b.get("/login/index.php").body, "Invalid login") {
				t.Error("the error is shown twice")
			}
			b.want(b.get("/my/"), 303, "/login/index.php")
		})
	}
}

func TestALoginTokenIsGoodForOneAttempt(t *testing.T) {
	h := testHome(t, nil)
	b := newBrowser(t, h.wwwroot)
	form := url.Values{"username": {"learner1"}, "password": {"wrong"},
		"logintoken": {field(t, loginTokenField, b.get("/login/index.php").body)}}
	b.post("/login/index.php", form)
	form.Set("password", "secret")
	b.want(b.post("/login/index.php", form), 303, "/login/index.php?loginredirect=1")
}

func TestSessionsInRedisHaveTheShapeOfRecordedOnes(t *testing.T) {
	server, client := testRedis(t)
	h := testHome(t, func(o *HomeOptions) { o.Sessions = Sessions{Redis: client, Prefix: "mdl_idp_"} })
	b := newBrowser(t, h.wwwroot)
	session := func() *session {
		t.Helper()
		var fields []string
		for _, name := range sessionFields {
			fields = append(fields, server.HGet("mdl_idp_session_"+b.sid(), name))
		}
		s, err := decodeSession(b.sid(), fields)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	// same compares names in their order, and the PHP types of what is not
	// the learner's own.
	same := func(state string) {
		t.Helper()
		want, got := recorded(t, state), session()
		if diff := cmp.Diff(keys(want), keys(&got.vars)); diff != "" {
			t.Errorf("%s: variables (-recorded +ours)\n%s", state, diff)
		}
		for _, name := range keys(want) {
			w, g := keys(&want.get(name).(*phpObject).phpArray), keys(&got.object(name).phpArray)
			optional := map[string]bool{ // of pages that the stand-in does not have
				"cachestore_session": true, "core_welcome_message": true, "custom_block_regions": true,
				"calendarshoweventtype": true, "load_navigation_admin": true,
			}
			drop := func(list []string) (kept []string) {
				for _, n := range list {
					if !optional[n] {
						kept = append(kept, n)
					}
				}
				return kept
			}
			if diff := cmp.Diff(drop(w), drop(g)); diff != "" {
				t.Errorf("%s: %s (-recorded +ours)\n%s", state, name, diff)
			}
		}
	}
	ttl := func(want string) {
		t.Helper()
		if got := server.TTL("mdl_idp_session_" + b.sid()).String(); got != want {
			t.Errorf("lifetime %s, want %s", got, want)
		}
	}

	b.get("/login/index.php")
	same("anonymous")
	ttl("3m0s")
	form := b.get("/login/index.php")
	ttl("8h1m20s")
	old := b.sid()
	b.post("/login/index.php", url.Values{"username": {"learner1"}, "password": {"secret"}, "logintoken": {field(t, loginTokenField, form.body)}})
	if server.Exists("mdl_idp_session_" + old) {
		t.Error("the old key is still there when the login's answer arrives")
	}
	if got := server.HGet("mdl_idp_user_3", b.sid()); got != server.HGet("mdl_idp_session_"+b.sid(), "timecreated") {
		t.Errorf("index of the user: %q", got)
	}
	same("learner-at-303")
	ttl("8h1m20s")
	if got := server.HGet("mdl_idp_session_"+b.sid(), "userid"); got != "i:3;" {
		t.Errorf("userid %q", got)
	}
	b.get("/login/index.php?testsession=3")
	same("learner-after-testsession")
	page := b.get("/my/")
	same("learner")
	b.get("/login/logout.php?sesskey=" + field(t, sesskeyField, page.body))
	same("after-logout")

	b = newBrowser(t, h.wwwroot)
	b.login("guest", "guest")
	same("guest")
	ttl("40h0m0s")

	b = newBrowser(t, h.wwwroot)
	b.login("admin", "admin")
	page = b.get("/my/")
	sid := b.sid()
	a := b.get("/course/loginas.php?id=1&user=3&sesskey=" + field(t, sesskeyField, page.body))
	if a.status != 200 || b.sid() != sid || server.HGet("mdl_idp_session_"+sid, "userid") != "i:2;" {
		t.Errorf("log in as: %d, session kept: %t", a.status, b.sid() == sid)
	}
	b.get("/my/")
	same("loginas")
	s := session()
	if s.user().text("id") != "3" || s.user().text("realuser") != "2" || s.object("REALUSER").text("id") != "2" {
		t.Errorf("log in as: %+v", s.user())
	}
	if a = b.get("/login/index.php"); !strings.Contains(a.body, "/course/loginas.php?id=1&amp;sesskey=") {
		t.Error("a page does not show who wears the account")
	}
	b.want(b.get("/course/loginas.php?id=1&sesskey="+s.sesskey()), 303, "/course/loginas.php?id=1&redirect=1")
	b.want(b.get("/my/"), 303, "/login/index.php")
}

func TestAStandInReadsTheSessionsThatRealMoodleWrote(t *testing.T) {
	server, client := testRedis(t)
	h := testHome(t, func(o *HomeOptions) { o.Sessions = Sessions{Redis: client, Prefix: "p_"} })
	key := "p_session_recorded0"
	now := strconv.FormatInt(h.now().Unix(), 10)
	for i, v := range []string{`s:9:"recorded0";`, `s:1:"0";`, `s:9:"recorded0";`, "i:3;",
		string(appendPHP(nil, string(appendSession(nil, recorded(t, "learner"))))), "i:" + now + ";", "i:" + now + ";", `s:0:"";`, `s:0:"";`} {
		server.HSet(key, sessionFields[i], v)
	}
	r, _ := http.NewRequestWithContext(context.Background(), "GET", h.url("/my/"), nil)
	r.Header.Set("Cookie", "MoodleSession=recorded0")
	resp, err := newBrowser(t, h.wwwroot).client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Set-Cookie") != "" {
		t.Errorf("got %s", resp.Status)
	}
}

func TestTheSecondFactorStandsBeforeEveryPage(t *testing.T) {
	h := testHome(t, func(o *HomeOptions) { o.MFACode = "314159" })
	b := newBrowser(t, h.wwwroot)
	b.get("/my/?wanted=1")
	a := b.submitLogin("learner1", "secret")
	b.want(a, 303, "/login/index.php?testsession=3")
	b.want(b.get(a.location), 303, mfaPath)
	for _, page := range []string{"/", "/my/", "/login/index.php"} {
		b.want(b.get(page), 303, mfaPath)
	}
	form := b.get(mfaPath)
	sid := b.sid()
	values := url.Values{"verificationcode": {"1"}, "sesskey": {field(t, sesskeyField, form.body)}}
	if a = b.post(mfaPath, values); a.status != 200 || !strings.Contains(a.body, "Wrong code. Try again.") {
		t.Errorf("wrong code: %d", a.status)
	}
	b.want(b.get("/my/"), 303, mfaPath)
	values.Set("verificationcode", "314159")
	b.want(b.post(mfaPath, values), 303, "/my/?wanted=1")
	if b.sid() != sid {
		t.Error("the second factor changed the session id")
	}
	b.want(b.get("/my/"), 200, "")
}

func TestTheDoorsCompleteALoginWithoutAForm(t *testing.T) {
	h := testHome(t, func(o *HomeOptions) { o.Doors = true })
	b := newBrowser(t, h.wwwroot)
	b.get("/my/?wanted=1")
	b.want(b.get("/auth/oauth2/login.php?id=1&username=learner1&wantsurl=https://evil.test/"), 303, "/my/?wanted=1")
	b.want(b.get("/my/"), 200, "")

	b = newBrowser(t, h.wwwroot)
	b.want(b.post("/auth/saml2/sp/saml2-acs.php", url.Values{"username": {"learner1"}, "RelayState": {h.url("/?x=1")}}), 303, "/?x=1")
	b.want(b.get("/my/"), 200, "")

	shut := testHome(t, nil)
	if a := newBrowser(t, shut.wwwroot).get("/auth/oauth2/login.php?username=learner1"); a.status != 404 {
		t.Errorf("a door that is shut answers %d", a.status)
	}
}

func TestPagesSayWhoIsThereAndLoadNothingFromElsewhere(t *testing.T) {
	h := testHome(t, func(o *HomeOptions) {
		o.Mails = []Mail{{From: "Charles Babbage", Subject: "<b>", Link: "http://localhost/auth/mnet/jump.php?a=1&b=2"}}
	})
	b := newBrowser(t, h.wwwroot)
	a := b.get("/")
	if !strings.Contains(a.body, ` pagelayout-frontpage notloggedin"`) || !strings.Contains(a.body, `"userId":0`) ||
		!strings.Contains(a.body, `href="http://localhost/auth/mnet/jump.php?a=1&amp;b=2"`) || strings.Contains(a.body, "<b>") {
		t.Errorf("front page: %s", a.body)
	}
	b.login("admin", "admin")
	pages := map[string]answer{"dashboard": b.get("/my/")}
	sesskey := field(t, sesskeyField, pages["dashboard"].body)
	pages["confirm"] = b.get("/login/logout.php")
	pages["login as"] = b.get("/course/loginas.php?user=3&sesskey=" + sesskey)
	pages["login"] = b.get("/login/index.php")
	pages["missing"] = b.get("/nothing.php")
	if !strings.Contains(pages["login"].body, ` pagelayout-login userloggedinas"`) || !strings.Contains(pages["login"].body, `"userId":3`) {
		t.Errorf("log in as: %s", pages["login"].body)
	}
	if pages["missing"].status != 404 {
		t.Errorf("a page that is not there: %d", pages["missing"].status)
	}
	for name, a := range pages {
		for _, loads := range []string{" src=", "@import", "url(", "<link rel=\"stylesheet"} {
			if strings.Contains(a.body, loads) {
				t.Errorf("%s has %q", name, loads)
			}
		}
	}
}

func TestAnAccountCanChangeUnderALivingSession(t *testing.T) {
	h := testHome(t, nil)
	b := newBrowser(t, h.wwwroot)
	b.login("learner1", "secret")
	h.Update("learner1", func(u *User) { u.Suspended = true })
	b.want(b.get("/my/"), 200, "") // suspended only in the table
	if err := h.EndSessions(t.Context(), "learner1"); err != nil {
		t.Fatal(err)
	}
	b.want(b.get("/my/"), 303, "/login/index.php")
}

func TestASiteBelowAPathKeepsToIt(t *testing.T) {
	h := testHome(t, func(o *HomeOptions) { o.Wwwroot = mustWwwroot(t, o.Wwwroot.String()+"/moodle") })
	b := newBrowser(t, h.wwwroot)
	a := b.get("/my/")
	b.want(a, 303, "/login/index.php")
	if got := a.header.Get("Set-Cookie"); !strings.HasSuffix(got, "; path=/moodle/; HttpOnly") {
		t.Errorf("cookie %q", got)
	}
	b.want(b.login("learner1", "secret"), 303, "/my/")
	b.want(b.get("/my/"), 200, "")
	if a = b.get(h.wwwroot.Origin() + "/my/"); a.status != 404 {
		t.Errorf("above the path: %d", a.status)
	}
}

package main

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"jumpgate/gateway/moodletest"
)

// source is a way for the gateway to learn whose a session is.
type source struct {
	name    string
	setting func(*testing.T) setting
}

var sources = []source{
	{"moodle-redis", func(t *testing.T) setting {
		r := startRedis(t)
		return setting{
			redis:    r.url(),
			identity: "{source: moodle-redis, prefix: mdl_, mfa: %t}",
			sessions: moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"},
		}
	}},
	{"moodle-redis with gzip", func(t *testing.T) setting {
		r := startRedis(t)
		return setting{
			redis:    r.url(),
			identity: "{source: moodle-redis, prefix: mdl_, mfa: %t}",
			sessions: moodletest.Sessions{Redis: r.Client, Prefix: "mdl_", Gzip: true},
		}
	}},
	{"moodle-web", func(t *testing.T) setting {
		return setting{identity: "{source: moodle-web, mfa: %t}"}
	}},
	{"moodle-web with a token", func(t *testing.T) setting {
		return setting{identity: "{source: moodle-web, token_file: token, mfa: %t}", token: "0123456789abcdef0123456789abcdef"}
	}},
}

// eachSource runs a test with each identity source, with or without tool_mfa.
func eachSource(t *testing.T, mfa string, test func(*testing.T, *federation)) {
	for _, s := range sources {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			set := s.setting(t)
			set.mfa = mfa
			set.identity = strings.ReplaceAll(set.identity, "%t", map[bool]string{true: "true", false: "false"}[mfa != ""])
			test(t, newFederation(t, set))
		})
	}
}

func TestTheLoginFormIsAnsweredWithTheJump(t *testing.T) {
	eachSource(t, "", func(t *testing.T, f *federation) {
		v := newVisitor(t).follow(f.DeepLink)
		form := v.at.String()
		v.login(f.Username, "wrong")
		if !strings.Contains(v.page, "Invalid login") {
			t.Fatalf("a wrong password led to %s, which does not say so", v.at)
		}
		v.login(f.Username, f.Password).reads(f.scene, f.Username)
		if n := v.redirectsFrom(form, f.IDP); n != 1 {
			t.Errorf("the login was answered with %d redirects: %q", n, v.hops)
		}
		v.follow(f.DeepLink).reads(f.scene, f.Username)
		if n := v.redirectsFrom(f.DeepLink, f.IDP); n != 1 {
			t.Errorf("the click was answered with %d redirects: %q", n, v.hops)
		}
	})
}

var sesskey = regexp.MustCompile(`"sesskey":"([^"]+)"`)

// post sends a form to a page of the site that is shown.
func (v *visitor) post(path string, form url.Values) *visitor {
	v.t.Helper()
	if key := sesskey.FindStringSubmatch(v.page); key != nil && form.Get("sesskey") == "" {
		form.Set("sesskey", key[1])
	}
	r, err := http.NewRequest("POST", v.at.ResolveReference(&url.URL{Path: path}).String(), strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return v.do(r, err)
}

func TestTheSecondFactorIsAnsweredWithTheJump(t *testing.T) {
	const code = "271828"
	eachSource(t, code, func(t *testing.T, f *federation) {
		v := newVisitor(t).follow(f.DeepLink).login(f.Username, f.Password)
		if v.at.Path != "/admin/tool/mfa/auth.php" {
			t.Fatalf("the password led to %s by %q", v.at, v.hops)
		}
		v.post("/admin/tool/mfa/auth.php", url.Values{"verificationcode": {"000000"}})
		if v.at.Path != "/admin/tool/mfa/auth.php" {
			t.Fatalf("a wrong code led to %s by %q", v.at, v.hops)
		}
		if other := newVisitor(t); true { // the same browser, another link, half logged in
			other.client.Jar = v.client.Jar
			if other.follow(f.DeepLink); strings.HasPrefix(other.at.String(), f.SP) {
				t.Fatalf("half logged in the learner got to %s", other.at)
			}
		}
		v.post("/admin/tool/mfa/auth.php", url.Values{"verificationcode": {code}}).reads(f.scene, f.Username)
		if n := v.redirectsFrom(f.IDP+"/", f.IDP); n != 1 {
			t.Errorf("the code was answered with %d redirects: %q", n, v.hops)
		}
	})
}

func TestOtherLoginsAreAnsweredWithTheJump(t *testing.T) {
	eachSource(t, "", func(t *testing.T, f *federation) {
		v := newVisitor(t).follow(f.DeepLink)
		v.follow(f.IDP+"/auth/oauth2/login.php?username="+f.Username).reads(f.scene, f.Username)
		if n := len(v.hops); n != 2 {
			t.Errorf("OAuth2: %q", v.hops)
		}

		// SAML: the browser POSTs from elsewhere, without its Lax cookies, and
		// gets the session; the page that it is sent to becomes the jump.
		v = newVisitor(t).follow(f.DeepLink)
		saml := newVisitor(t)
		saml.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		saml.at = v.at
		saml.post("/auth/saml2/sp/saml2-acs.php", url.Values{"username": {f.Username}})
		home, err := url.Parse(f.IDP)
		if err != nil {
			t.Fatal(err)
		}
		v.client.Jar.SetCookies(home, saml.client.Jar.Cookies(home))
		v.follow(f.IDP+"/").reads(f.scene, f.Username)
	})
}

func TestWhoMayNotJumpIsToldWhy(t *testing.T) {
	eachSource(t, "", func(t *testing.T, f *federation) {
		v := newVisitor(t).follow(f.IDP+"/login/index.php").login("root", "root")
		v.follow(f.DeepLink)
		if !strings.HasPrefix(v.at.String(), f.SP+"/") {
			t.Fatalf("the administrator's own click led to %s", v.at)
		}
		v.follow(f.IDP + "/my/")
		key := sesskey.FindStringSubmatch(v.page)
		if key == nil {
			t.Fatal("no sesskey")
		}
		ada := regexp.MustCompile(`loginas\.php\?[^"]*user=(\d+)`).FindStringSubmatch(v.page)
		id := "3"
		if ada != nil {
			id = ada[1]
		}
		v.follow(f.IDP + "/course/loginas.php?user=" + id + "&sesskey=" + key[1])
		v.follow(f.DeepLink)
		if v.at.Path != "/auth/mnet/jump.php" || !strings.Contains(v.page, "user-login-as") {
			t.Errorf("as somebody else the administrator got to %s:\n%s", v.at, v.page)
		}
	})
}

func TestAfterALogoutTheLinkAsksForALogin(t *testing.T) {
	eachSource(t, "", func(t *testing.T, f *federation) {
		v := newVisitor(t).follow(f.DeepLink).login(f.Username, f.Password)
		v.reads(f.scene, f.Username)
		v.logout(f.IDP)
		if v.follow(f.DeepLink); v.at.Path != "/login/index.php" {
			t.Errorf("logged out, the click led to %s by %q", v.at, v.hops)
		}
	})
}

func TestALoginGoesOnAtAnotherGatewayAndAfterARestart(t *testing.T) {
	r := startRedis(t)
	f := newFederation(t, setting{
		redis: r.url(), identity: "{source: moodle-redis, prefix: mdl_}",
		sessions: moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"},
	})
	v := newVisitor(t).follow(f.DeepLink)
	f.gateway.Store(f.newGateway()) // another process, the same Redis and key
	r.stop()
	r.start()
	v.login(f.Username, f.Password).reads(f.scene, f.Username)
}

func TestWhenRedisIsDownPagesPassAndJumpsSaySo(t *testing.T) {
	state, moodles := startRedis(t), startRedis(t)
	f := newFederation(t, setting{
		redis: state.url(), identity: "{source: moodle-redis, prefix: mdl_, redis: '" + moodles.url() + "'}",
		sessions: moodletest.Sessions{Redis: moodles.Client, Prefix: "mdl_"},
	})
	v := newVisitor(t).follow(f.DeepLink)
	state.stop()
	if late := newVisitor(t).follow(f.DeepLink); !strings.Contains(late.page, "Not just now") {
		t.Errorf("a jump led to %s:\n%s", late.at, late.page)
	}
	other := newVisitor(t).follow(f.IDP+"/login/index.php").login(f.Username, f.Password)
	if other.at.String() != f.IDP+"/my/" {
		t.Errorf("a login led to %s by %q", other.at, other.hops)
	}
	state.start()
	v.login(f.Username, f.Password).reads(f.scene, f.Username)
	other.follow(f.DeepLink).reads(f.scene, f.Username)
}

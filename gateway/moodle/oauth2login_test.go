package moodle

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

const (
	nobodysSID   = "nobodynobodynobodynobodyno"
	nobodysPage  = `<body class="pagelayout-login notloggedin"><script>M.cfg = {"userId":0,"sesskey":"k3y"};</script>`
	somebodyPage = `<body class="pagelayout-login"><script>M.cfg = {"userId":4,"sesskey":"k3y"};</script>`
)

// oauth2Moodle answers the login page, and then the login.
func oauth2Moodle(t *testing.T, page, login http.HandlerFunc) (Login, error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moodle/login/index.php":
			page(w, r)
		case "/moodle/auth/oauth2/login.php":
			login(w, r)
		default:
			t.Errorf("%s %s", r.Method, r.URL)
		}
	}))
	t.Cleanup(server.Close)
	upstream, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	site, err := gateway.ParseWwwroot("https://forum.test/moodle")
	if err != nil {
		t.Fatal(err)
	}
	return NewWeb(WebOptions{Upstream: upstream, Site: site}).OAuth2Login(t.Context(),
		Browser{Session: testSID, Addr: netip.MustParseAddr("192.0.2.1"), UserAgent: "Mozilla/5.0"}, 3, "c0de")
}

func nobodys(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Set-Cookie", "MoodleSession="+nobodysSID+"; path=/moodle/")
	_, _ = fmt.Fprint(w, nobodysPage)
}

func TestOAuth2LoginBringsTheCodeInASessionOfItsOwn(t *testing.T) {
	login, err := oauth2Moodle(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" || r.URL.RawQuery != "loginredirect=0" || r.Header["Cookie"] != nil || r.UserAgent() != "Mozilla/5.0" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		nobodys(w, r)
	}, func(w http.ResponseWriter, r *http.Request) {
		want := url.Values{"id": {"3"}, "wantsurl": {"https://forum.test/moodle/"}, "sesskey": {"k3y"}, "oauth2code": {"c0de"}}
		if err := r.ParseForm(); err != nil || r.URL.RawQuery != "" {
			t.Errorf("%v, and the address has %q", err, r.URL.RawQuery)
		}
		if diff := cmp.Diff(want, r.PostForm); diff != "" {
			t.Errorf("the form (-want +got):\n%s", diff)
		}
		if r.Header.Get("Cookie") != "MoodleSession="+nobodysSID || r.Header.Get("X-Forwarded-For") != "192.0.2.1" || r.Host != "forum.test" {
			t.Errorf("%s %v", r.Host, r.Header)
		}
		w.Header().Add("Set-Cookie", "MoodleSession="+testSID+"; path=/moodle/; secure; HttpOnly")
		w.Header().Add("Set-Cookie", "other=1")
		w.Header().Set("Location", "https://forum.test/moodle/")
		w.WriteHeader(http.StatusSeeOther)
	})
	if err != nil || login.Session != testSID || len(login.Cookies) != 2 {
		t.Errorf("%+v, %v", login, err)
	}
}

func TestOAuth2LoginFails(t *testing.T) {
	answer := func(status int, cookie, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if cookie != "" {
				w.Header().Set("Set-Cookie", "MoodleSession="+cookie+"; path=/")
			}
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, body)
		}
	}
	const code = "https://docs.moodle.org/405/en/error/"
	for _, test := range []struct {
		name        string
		page, login http.HandlerFunc
		refused     bool
		want        string
	}{
		{"back to the login page", nobodys, answer(303, "", ""), true, "the account is suspended"},
		{"in the same session", nobodys, answer(303, nobodysSID, ""), true, "the account is suspended"},
		{"in none", nobodys, answer(303, "deleted", ""), true, "the account is suspended"},
		{"with a mail to be answered", nobodys, answer(200, "", "<p>"), true, "Require email verification"},
		{"since the plugin is off", nobodys, answer(404, "", code+"auth_oauth2/notenabled"), true, "notenabled: the plugin OAuth 2 is not enabled"},
		{"since the service is not for logins", nobodys, answer(404, "", code+"auth_oauth2/issuernologin"), true, "issuernologin"},
		{"since it gets no token", nobodys, answer(404, "", code+"core_error/oauth2upgradetokenerror"), true, "another client id or secret"},
		{"since a password has to be changed that there is not", nobodys, answer(404, "", code+"auth/nopasswordchangeforced"), true, "auth_forcepasswordchange"},
		{"with an error of the plugin's own", nobodys, answer(404, "", code+"moodle/generalexceptionmessage"), true, "domain of the mail address"},
		{"in maintenance", nobodys, answer(503, "", ""), false, "status 503"},
		{"in maintenance already at the login page", answer(503, "", ""), nil, false, "login page: status 503"},
		{"with a cookie of another name", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Set-Cookie", "MoodleSessionx="+nobodysSID)
			_, _ = fmt.Fprint(w, nobodysPage)
		}, nil, true, "identity.cookie"},
		{"with a login page that is elsewhere", answer(303, nobodysSID, ""), nil, false, "login page: status 303"},
		{"with a login page of somebody's", answer(200, nobodysSID, somebodyPage), nil, false, "somebody's"},
		{"with no page of Moodle's", answer(200, nobodysSID, "<p>"), nil, false, "M.cfg"},
	} {
		login, err := oauth2Moodle(t, test.page, test.login)
		if err == nil || errors.Is(err, ErrLoginRefused) != test.refused || !strings.Contains(err.Error(), test.want) || login.Session != "" {
			t.Errorf("%s: %+v, %v", test.name, login, err)
			continue
		}
		for _, secret := range []string{testSID, nobodysSID, "c0de", "k3y", "http://"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error tells %q: %v", test.name, secret, err)
			}
		}
	}
}

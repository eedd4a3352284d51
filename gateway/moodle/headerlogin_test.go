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

// newcomer has what headers do not easily hold.
var newcomer = gateway.User{
	Username: "ada@home.test", FirstName: "Ada; Augusta", LastName: "Lövelace", Email: "ada@home.test", City: "東京", Description: "<p>",
}

func headerLogin(t *testing.T, serve http.HandlerFunc) (Login, error) {
	t.Helper()
	server := httptest.NewServer(serve)
	t.Cleanup(server.Close)
	upstream, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	site, err := gateway.ParseWwwroot("https://forum.test/moodle")
	if err != nil {
		t.Fatal(err)
	}
	return NewWeb(WebOptions{Upstream: upstream, Site: site}).HeaderLogin(t.Context(),
		Browser{Session: testSID, Addr: netip.MustParseAddr("::ffff:192.0.2.1"), UserAgent: "Mozilla/5.0"}, newcomer)
}

func TestHeaderLoginSendsWhoItIsAndNothingOfTheBrowsersSession(t *testing.T) {
	login, err := headerLogin(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Method + " " + r.Host + r.URL.String(); got != "GET forum.test/moodle/auth/shibboleth/index.php" {
			t.Errorf("the request is %s", got)
		}
		want := http.Header{
			"X-Jumpgate-Username": {"ada@home.test"}, "X-Jumpgate-Firstname": {"Ada, Augusta"}, "X-Jumpgate-Lastname": {"Lövelace"},
			"X-Jumpgate-Email": {"ada@home.test"}, "X-Jumpgate-City": {"東京"}, "X-Jumpgate-Country": {""}, "X-Jumpgate-Lang": {""},
			"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"forum.test"}, "X-Forwarded-Proto": {"https"},
			"User-Agent": {"Mozilla/5.0"}, "Accept-Encoding": {"gzip"},
		}
		if diff := cmp.Diff(want, r.Header); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
		w.Header().Add("Set-Cookie", "MoodleSession="+testSID+"; path=/moodle/; secure; HttpOnly")
		w.Header().Add("Set-Cookie", "MOODLEID1_=deleted; path=/moodle/")
		w.Header().Set("Location", "https://forum.test/moodle/my/")
		w.WriteHeader(http.StatusSeeOther)
	})
	if err != nil || login.Session != testSID || len(login.Cookies) != 2 {
		t.Errorf("%+v, %v", login, err)
	}
}

func TestHeaderLoginFails(t *testing.T) {
	const code = "https://docs.moodle.org/405/en/error/auth_shibboleth/"
	for _, test := range []struct {
		name, cookie, body string
		status             int
		refused            bool
		want               string
	}{
		{"the account is refused", "MoodleSession=" + testSID, code + "shib_invalid_account_error", 404, true, "the account is suspended, locked after wrong passwords (lockoutthreshold) or of another kind"},
		{"the plugin is not set up", "MoodleSession=" + testSID, code + "shib_not_set_up_error", 404, true, "HTTP_X_JUMPGATE_USERNAME"},
		{"another error of the plugin", "", code + "shib_no_attributes_error\"", 404, true, "status 404, shib_no_attributes_error"},
		{"there is no plugin", "", "File not found", 404, true, "status 404"},
		{"a redirect without a session", "", "", 303, true, "identity.cookie"},
		{"a session under another name", "MoodleSessionforum=" + testSID, "", 303, true, "identity.cookie"},
		{"a session that is deleted", "MoodleSession=deleted", "", 303, true, "identity.cookie"},
		{"another redirect", "MoodleSession=" + testSID, "", 302, true, "status 302"},
		{"a page", "MoodleSession=" + testSID, "", 200, false, "status 200"},
		{"maintenance", "", "", 503, false, "status 503"},
	} {
		login, err := headerLogin(t, func(w http.ResponseWriter, r *http.Request) {
			if test.cookie != "" {
				w.Header().Set("Set-Cookie", test.cookie+"; path=/")
			}
			w.WriteHeader(test.status)
			_, _ = fmt.Fprint(w, test.body)
		})
		if err == nil || errors.Is(err, ErrLoginRefused) != test.refused || !strings.Contains(err.Error(), test.want) || login.Session != "" {
			t.Errorf("%s: %+v, %v", test.name, login, err)
			continue
		}
		for _, secret := range []string{testSID, "ada", "Lövelace", "http://"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error tells %q: %v", test.name, secret, err)
			}
		}
	}
}

func TestAccountsAreFoundByAField(t *testing.T) {
	const record = `{"id":7,"username":"ada","auth":"mnet","email":"ada@home.test","idnumber":"https:\/\/home.test#ada"}`
	for _, test := range []struct {
		name, answer string
		want         []Account
		fails        string
	}{
		{"none", "[]", nil, ""},
		{"one", "[" + record + "]", []Account{{7, "ada", "mnet", "ada@home.test", "https://home.test#ada"}}, ""},
		{"a token that is wrong", `{"exception":"x","errorcode":"invalidtoken","message":"` + testToken + `"}`, nil, "is not valid"},
		{"that of a user who has not agreed to a policy", `{"exception":"x","errorcode":"sitepolicynotagreed","message":""}`, nil, "the token's user has to"},
		{"no answer of Moodle's", "<html>", nil, "not a list"},
	} {
		s := &standIn{rest: test.answer}
		got, err := web(t, s, func(*WebOptions) {}).AccountsBy(t.Context(), testToken, "email", "ada@home.test")
		if diff := cmp.Diff(test.want, got); diff != "" || (err != nil) != (test.fails != "") || err != nil && (strings.Contains(err.Error(), testToken) || !strings.Contains(err.Error(), test.fails)) {
			t.Errorf("%s: %v (-want +got):\n%s", test.name, err, diff)
		}
	}
}

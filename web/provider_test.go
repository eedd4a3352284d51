package web_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"jumpgate/gateway/audit"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
	"jumpgate/sp"
	"jumpgate/web"
)

const clientSecret = "fedcba9876543210 fedcba%9876543210"

// codes stands for the record of every code but "none".
type codes struct{}

func (codes) IssueCode(context.Context, []byte) (string, error) { return "", nil }

func (codes) RedeemCode(_ context.Context, code string) ([]byte, string, error) {
	switch code {
	case "none":
		return nil, "", store.ErrNoToken
	case "down":
		return nil, "", store.ErrUnavailable
	}
	return []byte(`{"sub":"https://sp.test#ada"}`), "access", nil
}

func (codes) Access(_ context.Context, token string) ([]byte, error) {
	switch token {
	case "access":
		return []byte(`{"sub":"https://sp.test#ada"}`), nil
	case "down":
		return nil, store.ErrUnavailable
	}
	return nil, store.ErrNoToken
}

func newProviderSite(t *testing.T) *bouncing {
	t.Helper()
	key, err := applicationKey()
	if err != nil {
		t.Fatal(err)
	}
	b := newBouncing(t, false, homePeer(t, "https://sp.test", "The home"))
	b.site.Guard = nil
	b.site.Provider = &sp.Provider{
		Site: b.site.Wwwroot, ClientID: "moodle", ClientSecret: clientSecret, Codes: codes{}, Now: time.Now,
		Tokens: &sp.Assertions{Site: b.site.Wwwroot, Algorithm: sp.AlgorithmRS256, Keys: func() []*mnet.Key { return []*mnet.Key{key} }, Now: time.Now},
	}
	b.Handler = web.NewHandler([]*web.Site{b.site}, nil, slog.New(slog.NewTextHandler(b.log, nil)), b.metrics)
	return b
}

// post sends what a program sends, and not a browser.
func (b *bouncing) post(target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w
}

func TestAProviderSaysWhereItsAddressesAre(t *testing.T) {
	b := newProviderSite(t)
	w := b.ask("https://home.test/.well-known/openid-configuration")
	var found map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &found); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v %v\n%s", w.Code, err, w.Header(), w.Body)
	}
	for field, want := range map[string]string{
		"issuer": "https://home.test", "authorization_endpoint": "https://home.test/jumpgate/oauth2/authorize", "token_endpoint": "https://home.test/jumpgate/oauth2/token",
		"userinfo_endpoint": "https://home.test/jumpgate/oauth2/userinfo", "jwks_uri": "https://home.test/.well-known/jwks.json",
	} {
		if found[field] != want {
			t.Errorf("%s is %v, want %s", field, found[field], want)
		}
	}
	if w := b.ask("https://home.test/.well-known/jwks.json"); w.Code != 200 || !strings.Contains(w.Body.String(), `"alg":"RS256"`) {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
	plain := newBouncing(t, false, homePeer(t, "https://sp.test", ""))
	for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/jwks.json", "/jumpgate/oauth2/token"} {
		if w := plain.ask("https://home.test" + path); strings.Contains(w.Header().Get("Content-Type"), "json") {
			t.Errorf("%s is answered where nobody lands by OAuth 2:\n%s", path, w.Body)
		}
	}
}

func TestACodeBecomesATokenForTheMoodleBehindAlone(t *testing.T) {
	b := newProviderSite(t)
	trail, dir := newTrail(t, true)
	b.site.Trail = trail
	const address = "https://home.test/jumpgate/oauth2/token"
	form := func(code, id, secret string) string {
		return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "client_id": {id}, "client_secret": {secret}}.Encode()
	}
	w := b.post(address, form("code", "moodle", clientSecret))
	var answer sp.TokenAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 || answer.AccessToken != "access" || answer.Type != "Bearer" || answer.ExpiresIn != 60 ||
		w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v %v\n%s", w.Code, err, w.Header(), w.Body)
	}
	// RFC 6749, section 2.3.1: both are encoded like a form before they are joined.
	r := httptest.NewRequest("POST", address, strings.NewReader("grant_type=authorization_code&code=code"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("moodle", url.QueryEscape(clientSecret))
	w = httptest.NewRecorder()
	if b.ServeHTTP(w, r); w.Code != 200 {
		t.Errorf("with a header: %d\n%s", w.Code, w.Body)
	}
	for _, test := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"another secret", form("code", "moodle", "x"), 401, `{"error":"invalid_client","error_description":"the client id or the client secret is another one"}`},
		{"no code", form("none", "moodle", clientSecret), 400, `"error":"invalid_grant"`},
		{"no form", "%zz", 400, `"error":"invalid_request"`},
		{"a long form", "x=" + strings.Repeat("y", 20<<10), 400, `"error":"invalid_request"`},
		{"no Redis", form("down", "moodle", clientSecret), 503, "Not just now"},
	} {
		w := b.post(address, test.body)
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) || w.Header().Get("Cache-Control") != "no-store" ||
			(w.Header().Get("WWW-Authenticate") != "") != (test.status == 401) {
			t.Errorf("%s: %d %v\n%s", test.name, w.Code, w.Header(), w.Body)
		}
	}
	if w := b.ask(address); w.Code != 405 {
		t.Errorf("a GET: %d", w.Code)
	}
	if w := b.post(address, form("code", "moodle", clientSecret), "Sec-Fetch-Site", "cross-site"); w.Code != 403 {
		t.Errorf("a browser on another site's page: %d", w.Code)
	}
	trail.Close()
	base := audit.Event{Kind: audit.KindRPC, Site: "https://home.test", Client: "192.0.2.1", Step: "oauth2/token", Decision: audit.Refuse}
	var want []audit.Event
	for _, refused := range [][2]string{{"invalid_client", "the client id or the client secret is another one"}, {"invalid_grant", "there is no such code, or it was redeemed, or is too old"},
		{"invalid_request", "the form cannot be read"}, {"invalid_request", "the form cannot be read"}} {
		e := base
		e.Rule, e.Detail = refused[0], refused[1]
		want = append(want, e)
	}
	got := recorded(t, dir)
	if len(got) < 4 {
		t.Fatalf("%+v", got)
	}
	if diff := cmp.Diff(want, got[:4], cmpopts.IgnoreFields(audit.Event{}, "Seq", "Time", "Request", "Latency", "Prev")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if log := b.log.String(); strings.Contains(log, "fedcba") || strings.Count(log, "reason=invalid_request") != 1 || !strings.Contains(log, "reason=invalid_client") {
		t.Errorf("the log:\n%s", log)
	}
}

func TestATokenTellsWhoItIs(t *testing.T) {
	b := newProviderSite(t)
	for authorization, want := range map[string]int{"Bearer access": 200, "bearer access": 200, "Bearer another": 401, "Basic access": 401, "": 401, "Bearer down": 503} {
		for _, method := range []string{"GET", "POST"} {
			r := httptest.NewRequest(method, "https://home.test/jumpgate/oauth2/userinfo", http.NoBody)
			r.Header.Set("Authorization", authorization)
			w := httptest.NewRecorder()
			b.ServeHTTP(w, r)
			if w.Code != want || (w.Body.String() == `{"sub":"https://sp.test#ada"}`) != (want == 200) || w.Header().Get("Cache-Control") != "no-store" ||
				(w.Header().Get("WWW-Authenticate") == `Bearer error="invalid_token"`) != (want == 401) {
				t.Errorf("%s %q: %d %v\n%s", method, authorization, w.Code, w.Header(), w.Body)
			}
		}
	}
}

// TestNobodyIsAuthorizedByClicking: who clicks on us at Moodle's login page is asked
// where they come from, whatever else the address says.
func TestNobodyIsAuthorizedByClicking(t *testing.T) {
	b := newProviderSite(t)
	ask := func(wantsurl string) *httptest.ResponseRecorder {
		state := "/auth/oauth2/login.php?" + url.Values{"wantsurl": {wantsurl}, "sesskey": {"k3y"}, "id": {"3"}}.Encode()
		return b.ask("https://home.test/jumpgate/oauth2/authorize?" + url.Values{
			"client_id": {"moodle"}, "response_type": {"code"}, "redirect_uri": {"https://evil.test/"}, "state": {state}, "scope": {"openid profile email"},
		}.Encode())
	}
	for wantsurl, want := range map[string]string{
		"https://home.test/mod/x?d=1": "https://home.test/jumpgate/home?wantsurl=%2Fmod%2Fx%3Fd%3D1",
		"https://evil.test/":          "https://home.test/jumpgate/home?wantsurl=%2F",
		"":                            "https://home.test/jumpgate/home?wantsurl=%2F",
	} {
		if w := ask(wantsurl); w.Code != 303 || w.Header().Get("Location") != want {
			t.Errorf("%q: %d %v", wantsurl, w.Code, w.Header())
		}
	}
	if w := ask("https://home.test//evil.test/"); w.Code != 403 || w.Header().Get("Location") != "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	b.site.Bounces = nil
	b.Handler = web.NewHandler([]*web.Site{b.site}, nil, slog.New(slog.DiscardHandler), b.metrics)
	if w := ask("https://home.test/mod/x"); w.Code != 403 || !strings.Contains(w.Body.String(), "Please log in at your home site") {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
}

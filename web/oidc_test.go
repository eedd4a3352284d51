package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/idp"
	"jumpgate/idp/openidtest"
)

const oidcCallback = "https://home.test/moodle" + idp.CallbackPath

// newOIDCFront is a gateway of a home whose accounts are at a provider.
func newOIDCFront(t *testing.T) (*front, *openidtest.Provider) {
	p := openidtest.Start(t, openidtest.Client{ID: "jumpgate", Callback: oidcCallback}, openidtest.Behaviour{Claims: map[string]any{
		"preferred_username": "ada", "given_name": "Ada", "family_name": "Lovelace", "email": "ada@home.test",
	}})
	return newFront(t, "https://home.test/moodle", func(o *idp.Options) {
		o.Source, o.OpenID = nil, idp.NewOpenID(idp.OpenIDOptions{
			Issuer: p.Issuer, ClientID: "jumpgate", Scopes: []string{"openid"}, Callback: oidcCallback,
			Claims:    idp.Claims{Username: "preferred_username", FirstName: "given_name", LastName: "family_name", Email: "email"},
			Usernames: &gateway.Usernames{}, Session: time.Hour,
		})
	}), p
}

// attempt follows a jump to the provider and back to the gateway, with the
// cookies of the browser.
func (f *front) attempt(t *testing.T) (back string, cookies func(*http.Request)) {
	t.Helper()
	w := f.do("GET", "https://home.test/moodle/auth/mnet/jump.php?hostid=3&wantsurl=/mod/x")
	if w.Code != 303 || w.Body.Len() != 0 || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Referrer-Policy") != "no-referrer" {
		t.Fatalf("the jump is answered with %d %v", w.Code, w.Header())
	}
	res, err := http.DefaultTransport.RoundTrip(httptest.NewRequest("GET", w.Header().Get("Location"), nil))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	set := w.Result().Cookies()
	return res.Header.Get("Location"), func(r *http.Request) {
		for _, c := range set {
			r.AddCookie(c)
		}
	}
}

func TestTheCallbackIsAnsweredWithTheLanding(t *testing.T) {
	f, _ := newOIDCFront(t)
	back, cookies := f.attempt(t)
	if w := f.do("POST", back, cookies); w.Code != 405 {
		t.Errorf("a POST: %d", w.Code)
	}
	if w := f.do("HEAD", back, cookies); w.Code != 200 || w.Header().Get("Location") != "" {
		t.Errorf("a HEAD: %d %v", w.Code, w.Header())
	}
	w := f.do("GET", back, cookies)
	h := w.Header()
	if w.Code != 303 || !strings.HasPrefix(h.Get("Location"), "https://sp.test/auth/mnet/land.php?token=") || w.Body.Len() != 0 ||
		h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("%d %v %s", w.Code, h, w.Body)
	}
	log := f.log.String()
	if !strings.Contains(log, "step=callback outcome=landed rule=path") || !strings.Contains(log, "user=ada") {
		t.Errorf("the log: %s", log)
	}
	u, err := url.Parse(back)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range u.Query() {
		if name != "iss" && strings.Contains(log, values[0]) {
			t.Errorf("the %s is in the log: %s", name, log)
		}
	}
}

func TestLoginsThatFailEndOnAPage(t *testing.T) {
	for _, test := range []struct {
		name   string
		does   func(*openidtest.Behaviour)
		change func(back string) string
		status int
		page   string // what it says
		log    string
	}{
		{"refused at the provider", func(b *openidtest.Behaviour) { b.Refusal = "access_denied" }, nil, 403,
			"did not let you in", `rule=login-denied`},
		{"with a token that is not good", func(b *openidtest.Behaviour) { b.Claims["nonce"] = "another" }, nil, 403,
			"cannot be trusted", `rule=login-invalid`},
		{"without a last name and mail address", func(b *openidtest.Behaviour) { b.Claims["family_name"], b.Claims["email"] = nil, nil }, nil, 403,
			"knows you by lacks last name and mail address", `cause="no good claim family_name, email"`},
		{"with a name that no Moodle has", func(b *openidtest.Behaviour) { b.Claims["preferred_username"] = "\x1b[31m<script>" }, nil, 403,
			"not one that your institution lets other sites know", `rule=user-username`},
		{"when the provider fails", func(b *openidtest.Behaviour) { b.Refusal = "temporarily_unavailable" }, nil, 503,
			"Not just now", `level=ERROR`},
		{"with a state that nobody made", nil, func(back string) string { return oidcCallback + "?code=x&state=y" }, 403,
			"began somewhere else", `rule=login-elsewhere`},
		{"without anything", nil, func(string) string { return oidcCallback }, 400,
			"This login is damaged", `rule=login-malformed`},
		{"with another jump", nil, func(back string) string {
			u, _ := url.Parse(back)
			q := u.Query()
			q.Set("state", "AAAAAAAAAAAAAAAAAAAAAA"+q.Get("state")[22:])
			return oidcCallback + "?" + q.Encode()
		}, 403, "This login is over", `rule=login-over`},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, p := newOIDCFront(t)
			if test.does != nil {
				p.Change(test.does)
			}
			back, cookies := f.attempt(t)
			if test.change != nil {
				back = test.change(back)
			}
			w := f.do("GET", back, cookies)
			h, page, log := w.Header(), w.Body.String(), f.log.String()
			if w.Code != test.status || !strings.Contains(page, test.page) || h.Get("Location") != "" {
				t.Errorf("%d, to %q: %s", w.Code, h.Get("Location"), page)
			}
			if h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" || (h.Get("Retry-After") != "") != (test.status == 503) {
				t.Errorf("header %v", h)
			}
			if !strings.Contains(log, test.log) || strings.Contains(log, "\x1b") {
				t.Errorf("the log: %s", log)
			}
			if strings.Contains(page, "<script") || strings.Contains(page, "as the test wants it") {
				t.Errorf("the page echoes: %s", page)
			}
		})
	}
}

func TestWhenTheProviderIsDownJumpsSaySo(t *testing.T) {
	f, p := newOIDCFront(t)
	p.Change(func(b *openidtest.Behaviour) {
		b.Answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(502); return true }
	})
	w := f.do("GET", "https://home.test/moodle/auth/mnet/jump.php?hostid=3&wantsurl=/mod/x")
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || len(w.Result().Cookies()) != 0 || !strings.Contains(w.Body.String(), "Not just now") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if log := f.log.String(); !strings.Contains(log, "openid provider: discovery:") || !strings.Contains(log, "502") {
		t.Errorf("the log: %s", log)
	}
	if w := f.do("GET", "https://home.test/moodle/my/"); w.Code != 200 {
		t.Errorf("pages: %d", w.Code)
	}
	if w := f.do("GET", "https://home.test/moodle/auth/mnet/jump.php?hostid=3&wantsurl=//evil.test"); w.Code != 403 {
		t.Errorf("refused targets: %d", w.Code)
	}
}

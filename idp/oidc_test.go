package idp_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
	"jumpgate/idp"
	"jumpgate/idp/openidtest"
)

const callback = "https://home.test/moodle" + idp.CallbackPath

// college is a home whose accounts are at an OpenID provider.
type college struct {
	*home
	provider *openidtest.Provider
}

func adasClaims() map[string]any {
	return map[string]any{
		"preferred_username": "Ada@college.example", "given_name": "Ada", "family_name": "Lovelace",
		"email": "ada@college.example", "email_verified": true, "locale": "en-GB",
	}
}

func newCollege(t testing.TB, change ...func(*idp.OpenIDOptions)) *college {
	t.Helper()
	client := openidtest.Client{ID: "jumpgate", Secret: "s3cret:/?&", Callback: callback}
	options := idp.OpenIDOptions{
		ClientID: client.ID, ClientSecret: client.Secret, Scopes: []string{"openid", "profile"}, Callback: callback,
		Claims:    idp.Claims{Username: "preferred_username", FirstName: "given_name", LastName: "family_name", Email: "email", Lang: "locale", City: "address.locality", Country: "country", Timezone: "zoneinfo"},
		Usernames: &gateway.Usernames{Strip: "@college.example"}, Session: time.Hour,
	}
	for _, c := range change {
		c(&options)
	}
	client.Secret = options.ClientSecret
	c := &college{provider: openidtest.Start(t, client, openidtest.Behaviour{Claims: adasClaims()})}
	options.Issuer = c.provider.Issuer
	c.home = newHome(t, store.Limits{}, func(h *home, o *idp.Options) {
		h.now = time.Now()
		options.Now = func() time.Time { return h.now }
		o.Source, o.OpenID = nil, idp.NewOpenID(options)
	})
	return c
}

// login follows an address to the provider, which sends back at once.
func (c *college) login(t testing.TB, a idp.Answer) (back string) {
	t.Helper()
	if a.Err != nil || a.Refused || a.Landing || !strings.HasPrefix(a.Location, c.provider.Issuer+"/login?") {
		t.Fatalf("not sent to the provider: %+v", a)
	}
	res, err := http.DefaultTransport.RoundTrip(httptest.NewRequest("GET", a.Location, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if back = res.Header.Get("Location"); !strings.HasPrefix(back, callback+"?") {
		page, _ := io.ReadAll(res.Body)
		t.Fatalf("the provider says %s: %s", res.Status, page)
	}
	return back
}

// comeBack asks for the callback.
func (c *college) comeBack(b browser, target string) (idp.Answer, http.Header) {
	w := httptest.NewRecorder()
	a := c.Callback(w, b.request("GET", target))
	b.keep(w.Header())
	return a, w.Header()
}

func TestALoginAtTheProviderEndsAtThePeer(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*idp.OpenIDOptions)
		does   func(*openidtest.Behaviour)
	}{
		{"with a client secret", func(*idp.OpenIDOptions) {}, func(*openidtest.Behaviour) {}},
		{"with one that goes into the form", func(*idp.OpenIDOptions) {}, func(b *openidtest.Behaviour) { b.Methods = []string{"private_key_jwt", "client_secret_post"} }},
		{"with one that goes into the header", func(*idp.OpenIDOptions) {}, func(b *openidtest.Behaviour) { b.Methods = []string{"client_secret_post", "client_secret_basic"} }},
		{"without a client secret", func(o *idp.OpenIDOptions) { o.ClientSecret = "" }, func(*openidtest.Behaviour) {}},
		{"with the names at the userinfo endpoint", func(*idp.OpenIDOptions) {}, func(b *openidtest.Behaviour) {
			b.UserInfo = adasClaims()
			b.UserInfo["sub"] = "4711"
			b.Claims = map[string]any{"preferred_username": "ada@college.example", "locale": "en"}
		}},
		{"without a hash of the access token", func(*idp.OpenIDOptions) {}, func(b *openidtest.Behaviour) { b.Claims["at_hash"] = nil }},
		{"for several audiences, of which we are the party", func(*idp.OpenIDOptions) {}, func(b *openidtest.Behaviour) {
			b.Claims["aud"], b.Claims["azp"] = []string{"account", "jumpgate"}, "jumpgate"
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCollege(t, test.change)
			c.provider.Change(test.does)
			b := browser{}
			a, header := c.comeBack(b, c.login(t, c.jump(b, "/mod/forum/discuss.php?d=1#p3")))
			token, wantsurl := landing(t, a)
			if wantsurl != "/mod/forum/discuss.php?d=1#p3" || a.Username != "ada" {
				t.Errorf("%s lands on %s", a.Username, wantsurl)
			}
			g, err := c.state.Redeem(t.Context(), [32]byte{1}, token, store.Redeemer{Peer: c.Peers.Find("https://sp.test").Wwwroot, UserAgent: uaHash(firefox), Life: time.Hour})
			want := gateway.User{Username: "ada", FirstName: "Ada", LastName: "Lovelace", Email: "ada@college.example", Lang: "en"}
			if err != nil || g.User != want {
				t.Errorf("the peer learns of %+v, %v", g.User, err)
			}
			for _, line := range header["Set-Cookie"] {
				if cookie, err := http.ParseSetCookie(line); err != nil || !cookie.HttpOnly || !cookie.Secure && cookie.MaxAge > 0 || !strings.HasPrefix(cookie.Name, "__Host-jumpgate-") {
					t.Errorf("cookie %s, %v", line, err)
				}
			}

			// The login is good for more jumps.
			before := c.trips.n.Load()
			landing(t, c.jump(b, "/x"))
			if n := c.trips.n.Load() - before; n != 2 || c.provider.Asked("login") != 1 {
				t.Errorf("the second jump cost %d round trips and %d visits", n, c.provider.Asked("login"))
			}
			c.now = c.now.Add(61 * time.Minute)
			c.login(t, c.jump(b, "/x"))
		})
	}
}

func TestTwoTabsAreTwoLogins(t *testing.T) {
	c := newCollege(t)
	b := browser{}
	first, second := c.jump(b, "/1"), c.jump(b, "/2")
	one, two := c.login(t, first), c.login(t, second)
	a, _ := c.comeBack(b, two)
	if _, wantsurl := landing(t, a); wantsurl != "/2" {
		t.Errorf("the second tab lands on %s", wantsurl)
	}
	a, _ = c.comeBack(b, one)
	if _, wantsurl := landing(t, a); wantsurl != "/1" {
		t.Errorf("the first tab lands on %s", wantsurl)
	}
	if len(b) != 1 {
		t.Errorf("cookies are left: %v", b)
	}
}

func TestACallbackIsGoodOnceAndInItsBrowserOnly(t *testing.T) {
	c := newCollege(t)
	ada, eve := browser{}, browser{}
	adas := c.login(t, c.jump(ada, "/x"))
	eves := c.login(t, c.jump(eve, "/x"))
	with := func(target string, change func(url.Values)) string {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		change(q)
		u.RawQuery = q.Encode()
		return u.String()
	}
	evesState := with(adas, func(q url.Values) {
		u, _ := url.Parse(eves)
		q["state"] = u.Query()["state"]
	})
	for _, test := range []struct {
		name, target string
		b            browser
		want         gateway.Rule
	}{
		{"the end of a stranger's login", eves, ada, gateway.RuleLoginElsewhere},
		{"a stranger's state", evesState, ada, gateway.RuleLoginElsewhere},
		{"a browser that keeps no cookies", adas, browser{}, gateway.RuleLoginElsewhere},
		{"a state that nobody made", with(adas, func(q url.Values) { q.Set("state", "x") }), ada, gateway.RuleLoginElsewhere},
		{"another jump of this browser", with(adas, func(q url.Values) {
			q.Set("state", "AAAAAAAAAAAAAAAAAAAAAA."+strings.SplitN(q.Get("state"), ".", 2)[1])
		}), ada, gateway.RuleLoginOver},
		{"no state", with(adas, func(q url.Values) { q.Del("state") }), ada, gateway.RuleLoginMalformed},
		{"no code", with(adas, func(q url.Values) { q.Del("code") }), ada, gateway.RuleLoginMalformed},
		{"a code and an error", with(adas, func(q url.Values) { q.Set("error", "x") }), ada, gateway.RuleLoginMalformed},
		{"two states", with(adas, func(q url.Values) { q.Add("state", "x") }), ada, gateway.RuleLoginMalformed},
		{"two codes", with(adas, func(q url.Values) { q.Add("code", "x") }), ada, gateway.RuleLoginMalformed},
		{"a bad escape", adas + "&code=%zz", ada, gateway.RuleLoginMalformed},
		{"20 KB", adas + "&x=" + strings.Repeat("a", 20000), ada, gateway.RuleLoginMalformed},
		{"nothing", callback, ada, gateway.RuleLoginMalformed},
		{"the right browser", adas, ada, gateway.RulePath},
		{"the right one again", adas, ada, gateway.RuleLoginElsewhere},
		{"the stranger itself", eves, eve, gateway.RulePath},
	} {
		a, _ := c.comeBack(test.b, test.target)
		if a.Rule != test.want || a.Landing != (test.want == gateway.RulePath) {
			t.Errorf("%s: %+v", test.name, a)
		}
	}
	if n := c.provider.Asked("token"); n != 2 {
		t.Errorf("%d codes were exchanged", n)
	}

	// With another tab under way the browser keeps its cookie.
	tabs := browser{}
	c.jump(tabs, "/other")
	mine := c.login(t, c.jump(tabs, "/x"))
	a, _ := c.comeBack(tabs, mine)
	landing(t, a)
	if a, _ := c.comeBack(tabs, mine); a.Rule != gateway.RuleLoginOver {
		t.Errorf("again: %+v", a)
	}
}

func TestACallbackIsForANavigation(t *testing.T) {
	c := newCollege(t)
	b := browser{}
	target := c.login(t, c.jump(b, "/x"))
	r := b.request("GET", target)
	r.Header.Set("Sec-Fetch-Dest", "iframe")
	if a := c.Callback(httptest.NewRecorder(), r); a.Rule != gateway.RuleNotNavigation {
		t.Errorf("in a frame: %+v", a)
	}
	if a := c.Callback(httptest.NewRecorder(), b.request("HEAD", target)); a.Refused || a.Location != "" {
		t.Errorf("a HEAD: %+v", a)
	}
	a, _ := c.comeBack(b, target)
	landing(t, a)
}

func TestALoginThatTakesTooLongIsOver(t *testing.T) {
	c := newCollege(t)
	b := browser{}
	target := c.login(t, c.jump(b, "/x"))
	c.now = c.now.Add(store.JumpLife)
	if a, _ := c.comeBack(b, target); a.Rule != gateway.RuleLoginOver {
		t.Errorf("got %+v", a)
	}
}

// public is the provider's key as it is shown to the world.
func public(t *testing.T, p *openidtest.Provider) []byte {
	der, err := x509.MarshalPKIXPublicKey(p.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestOnlyWhatTheProviderSignedForThisLoginCounts(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	claim := func(name string, value any) func(*testing.T, *openidtest.Provider, *openidtest.Behaviour) {
		return func(_ *testing.T, _ *openidtest.Provider, b *openidtest.Behaviour) { b.Claims[name] = value }
	}
	type change = func(*testing.T, *openidtest.Provider, *openidtest.Behaviour)
	sign := func(sign func(jwt.MapClaims) string) change {
		return func(_ *testing.T, _ *openidtest.Provider, b *openidtest.Behaviour) { b.Sign = sign }
	}
	page := func(page, answer string, status int) change {
		return func(_ *testing.T, _ *openidtest.Provider, b *openidtest.Behaviour) {
			b.Answer = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/"+page) {
					return false
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(status)
				io.WriteString(w, answer)
				return true
			}
		}
	}
	userinfo := func(claims map[string]any) change {
		return func(_ *testing.T, _ *openidtest.Provider, b *openidtest.Behaviour) {
			b.Claims["given_name"], b.UserInfo = nil, claims
		}
	}
	const failed = gateway.Rule("")
	for _, test := range []struct {
		name string
		does change
		want gateway.Rule
	}{
		{"the nonce of another login", claim("nonce", strings.Repeat("x", 40)), gateway.RuleLoginInvalid},
		{"no nonce", claim("nonce", nil), gateway.RuleLoginInvalid},
		{"another audience", claim("aud", "another"), gateway.RuleLoginInvalid},
		{"no audience", claim("aud", nil), gateway.RuleLoginInvalid},
		{"several audiences and nobody's party", claim("aud", []string{"jumpgate", "another"}), gateway.RuleLoginInvalid},
		{"another party", claim("azp", "another"), gateway.RuleLoginInvalid},
		{"another issuer", claim("iss", "https://evil.example"), gateway.RuleLoginInvalid},
		{"no subject", claim("sub", nil), gateway.RuleLoginInvalid},
		{"expired", claim("exp", time.Now().Add(-time.Minute).Unix()), gateway.RuleLoginInvalid},
		{"no expiry", claim("exp", nil), gateway.RuleLoginInvalid},
		{"not yet valid", claim("nbf", time.Now().Add(time.Hour).Unix()), gateway.RuleLoginInvalid},
		{"the hash of another access token", claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), gateway.RuleLoginInvalid},
		{"no signature", sign(func(c jwt.MapClaims) string {
			return openidtest.SignWith(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, c)
		}), gateway.RuleLoginInvalid},
		{"the public key as a password", func(t *testing.T, p *openidtest.Provider, b *openidtest.Behaviour) {
			b.Sign = func(c jwt.MapClaims) string { return openidtest.SignWith(jwt.SigningMethodHS256, public(t, p), c) }
		}, gateway.RuleLoginInvalid},
		{"the client secret as a key", sign(func(c jwt.MapClaims) string {
			return openidtest.SignWith(jwt.SigningMethodHS256, []byte("s3cret:/?&"), c)
		}), gateway.RuleLoginInvalid},
		{"another key", sign(func(c jwt.MapClaims) string { return openidtest.SignWith(jwt.SigningMethodRS256, other, c) }), gateway.RuleLoginInvalid},
		{"no token", sign(func(jwt.MapClaims) string { return "" }), gateway.RuleLoginInvalid},
		{"no JWT", sign(func(jwt.MapClaims) string { return "a.b.c" }), gateway.RuleLoginInvalid},
		{"another claims set below the signature", func(_ *testing.T, p *openidtest.Provider, b *openidtest.Behaviour) {
			b.Sign = func(c jwt.MapClaims) string {
				parts := strings.Split(p.Sign(c), ".")
				c["preferred_username"] = "admin@college.example"
				return strings.Join([]string{parts[0], strings.Split(p.Sign(c), ".")[1], parts[2]}, ".")
			}
		}, gateway.RuleLoginInvalid},
		{"userinfo about somebody else", userinfo(map[string]any{"sub": "666", "given_name": "Eve"}), gateway.RuleLoginInvalid},
		{"userinfo about nobody", userinfo(map[string]any{"given_name": "Eve"}), gateway.RuleLoginInvalid},
		{"userinfo that is none", page("token", `{"access_token":"x"}`, 200), gateway.RuleLoginInvalid},
		{"an error at the login page", func(_ *testing.T, _ *openidtest.Provider, b *openidtest.Behaviour) { b.Refusal = "access_denied" }, gateway.RuleLoginDenied},
		{"an error that nobody knows", func(_ *testing.T, _ *openidtest.Provider, b *openidtest.Behaviour) { b.Refusal = "\x1b[31m<script>" }, gateway.RuleLoginDenied},
		{"the login page has a fault", func(_ *testing.T, _ *openidtest.Provider, b *openidtest.Behaviour) { b.Refusal = "server_error" }, failed},
		{"a code that is not good", page("token", `{"error":"invalid_grant"}`, 400), gateway.RuleLoginInvalid},
		{"a client that is not good", page("token", `{"error":"invalid_client"}`, 401), failed},
		{"the token endpoint has a fault", page("token", "", 500), failed},
		{"the token endpoint is elsewhere", func(_ *testing.T, _ *openidtest.Provider, b *openidtest.Behaviour) {
			b.Answer = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/token") {
					http.Redirect(w, r, "https://evil.example/token", http.StatusTemporaryRedirect)
					return true
				}
				return false
			}
		}, failed},
		{"the token endpoint says too much", page("token", `{"access_token":"`+strings.Repeat("x", 2<<20)+`"}`, 200), failed},
		{"the keys cannot be had", page("keys", "", 503), failed},
		{"the keys are none", page("keys", "{}", 200), gateway.RuleLoginInvalid},
		{"userinfo has a fault", func(t *testing.T, p *openidtest.Provider, b *openidtest.Behaviour) {
			userinfo(map[string]any{})(t, p, b)
			page("userinfo", "", 500)(t, p, b)
		}, failed},
		{"userinfo is refused", func(t *testing.T, p *openidtest.Provider, b *openidtest.Behaviour) {
			userinfo(map[string]any{})(t, p, b)
			page("userinfo", strings.Repeat("<p>No</p>", 10000), 403)(t, p, b)
		}, gateway.RuleLoginInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCollege(t)
			c.provider.Change(func(b *openidtest.Behaviour) { test.does(t, c.provider, b) })
			b := browser{}
			a, header := c.comeBack(b, c.login(t, c.jump(b, "/x")))
			if a.Landing || a.Location != "" || (a.Err != nil) != (test.want == failed) || test.want != failed && a.Rule != test.want {
				t.Errorf("got %+v", a)
			}
			if cause := a.Cause; test.want != failed && (cause == nil || len(cause.Error()) > 600 || strings.Contains(cause.Error(), "\x1b")) {
				t.Errorf("the cause is %v", cause)
			}
			if err := a.Err; err != nil && (len(err.Error()) > 600 || strings.Contains(err.Error(), "s3cret")) {
				t.Errorf("the error is %v", err)
			}
			for _, line := range header["Set-Cookie"] {
				if strings.Contains(line, "jumpgate-login-") {
					t.Errorf("a login began: %s", line)
				}
			}
			c.login(t, c.jump(b, "/x")) // nothing is remembered, and the learner may try again
		})
	}
}

func TestAnAnswerOfAnotherIssuerIsRefused(t *testing.T) {
	c := newCollege(t)
	b := browser{}
	u, err := url.Parse(c.login(t, c.jump(b, "/x")))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("iss", "https://evil.example")
	u.RawQuery = q.Encode()
	if a, _ := c.comeBack(b, u.String()); a.Rule != gateway.RuleLoginInvalid || c.provider.Asked("token") != 0 {
		t.Errorf("got %+v, and the code was sent %d times", a, c.provider.Asked("token"))
	}
}

func TestALoginDoesNotTakeOverACookieOfBefore(t *testing.T) {
	c := newCollege(t)
	b := browser{}
	a, _ := c.comeBack(b, c.login(t, c.jump(b, "/x")))
	landing(t, a)
	var name, planted string
	for name, planted = range b {
	}
	if len(b) != 1 || !strings.Contains(name, "-login-") {
		t.Fatalf("cookies: %v", b)
	}
	// A stranger plants the own login in a browser whose learner logs in then.
	learner := browser{}
	target := c.login(t, c.jump(learner, "/x"))
	learner[name] = planted
	a, _ = c.comeBack(learner, target)
	landing(t, a)
	if learner[name] == planted {
		t.Error("the cookie is the stranger's")
	}
	c.login(t, c.jump(browser{name: planted}, "/x")) // which is worth nothing any more
}

func TestALogoutAtTheHomeEndsTheLogin(t *testing.T) {
	c := newCollege(t)
	b := browser{"MoodleSession": anonymous}
	a, _ := c.comeBack(b, c.login(t, c.jump(b, "/x")))
	landing(t, a)
	watch := func(session string) {
		r := b.request("GET", "https://home.test/moodle/login/logout.php")
		if !c.Watches(r) || c.Expects(r) {
			t.Fatalf("watches %v, expects %v", c.Watches(r), c.Expects(r))
		}
		header := http.Header{}
		if session != "" {
			header.Set("Set-Cookie", "MoodleSession="+session+"; path=/moodle")
		}
		if err := c.Watch(r, &http.Response{Header: header}); err != nil {
			t.Fatal(err)
		}
	}
	watch("")
	landing(t, c.jump(b, "/x"))
	watch(anonymous)
	landing(t, c.jump(b, "/x"))
	watch(adas)
	c.login(t, c.jump(b, "/x"))
	if r := (browser{"MoodleSession": adas}).request("GET", "https://home.test/moodle/"); c.Watches(r) || c.Expects(r) {
		t.Error("browsers without a login are watched")
	}
}

func TestALoginCookieLivesAsLongAsWhatALogoutEnds(t *testing.T) {
	for session, want := range map[time.Duration]int{time.Hour: 8 * 3600, 24 * time.Hour: 24 * 3600} {
		c := newCollege(t, func(o *idp.OpenIDOptions) { o.Session = session })
		b := browser{}
		_, header := c.comeBack(b, c.login(t, c.jump(b, "/x")))
		got := 0
		for _, cookie := range (&http.Response{Header: header}).Cookies() {
			if strings.Contains(cookie.Name, "-login-") {
				got = cookie.MaxAge
			}
		}
		if got != want {
			t.Errorf("a login of %s leaves a cookie for %d seconds, want %d", session, got, want)
		}
	}
}

func TestOnlyALogoutFromThePagesOfTheHomeEndsWhatForumsHave(t *testing.T) {
	for _, test := range []struct {
		name   string
		header http.Header
		ends   bool
	}{
		{"a click", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Sec-Fetch-Dest": {"document"}}, true},
		{"the address bar", http.Header{"Sec-Fetch-Site": {"none"}}, true},
		{"a click in an old browser", http.Header{"Referer": {"https://home.test/moodle/my/"}}, true},
		{"a foreign page", http.Header{"Sec-Fetch-Site": {"cross-site"}}, false},
		{"a foreign page that names ours", http.Header{"Sec-Fetch-Site": {"cross-site"}, "Referer": {"https://home.test/moodle/my/"}}, false},
		{"a page of a neighbour", http.Header{"Sec-Fetch-Site": {"same-site"}}, false},
		{"a foreign page in an old browser", http.Header{"Referer": {"https://evil.test/https://home.test/"}}, false},
		{"a foreign page that hides", http.Header{}, false},
		{"a picture in a forum of the home", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Sec-Fetch-Dest": {"image"}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCollege(t)
			c.Call = func(context.Context, *gateway.Peer, string, ...mnet.Value) (mnet.Value, error) { return true, nil }
			b := browser{"MoodleSession": anonymous}
			a, _ := c.comeBack(b, c.login(t, c.jump(b, "/x")))
			token, _ := landing(t, a)
			by := store.Redeemer{Peer: a.Peer.Wwwroot, UserAgent: uaHash(firefox), Life: 8 * time.Hour}
			if _, err := c.state.Redeem(t.Context(), [32]byte{1}, token, by); err != nil {
				t.Fatal(err)
			}
			r := b.request("GET", "https://home.test/moodle/login/logout.php")
			maps.Copy(r.Header, test.header)
			if err := c.Watch(r, &http.Response{Header: http.Header{"Set-Cookie": {"MoodleSession=" + adas}}}); err != nil {
				t.Fatal(err)
			}
			if live, _, err := c.state.SessionAt(t.Context(), by.Peer, "ada"); live == test.ends || err != nil {
				t.Errorf("the session lives %t, %v", live, err)
			}
			c.Children.Wait()
			c.login(t, c.jump(b, "/x")) // ours is over in any case
		})
	}
}

func TestALoginAtAnotherProviderDoesNotCount(t *testing.T) {
	c := newCollege(t)
	b := browser{}
	a, _ := c.comeBack(b, c.login(t, c.jump(b, "/x")))
	landing(t, a)
	other := newCollege(t)
	other.Provider.Store, other.Provider.Browsers = c.Provider.Store, c.Provider.Browsers
	other.login(t, other.jump(b, "/x"))
}

func TestMoodleIsNotAskedWhoIsLoggedIn(t *testing.T) {
	c := newCollege(t)
	c.login(t, c.jump(browser{"MoodleSession": adas}, "/x"))
	if a := c.jump(browser{}, "//evil.test"); a.Rule != gateway.RuleSchemeRelative || c.provider.Asked("login") != 1 {
		t.Errorf("a refused target: %+v", a)
	}
}

func TestABrowserThatGoesAwayIsNotWaitedFor(t *testing.T) {
	c := newCollege(t)
	b := browser{}
	target := c.login(t, c.jump(b, "/x"))
	ctx, cancel := context.WithCancel(t.Context())
	c.provider.Change(func(b *openidtest.Behaviour) {
		b.Answer = func(_ http.ResponseWriter, r *http.Request) bool {
			cancel()
			io.Copy(io.Discard, r.Body) // or the server does not notice
			<-r.Context().Done()
			return true
		}
	})
	w := httptest.NewRecorder()
	if a := c.Callback(w, b.request("GET", target).WithContext(ctx)); a.Err == nil || a.Landing {
		t.Errorf("got %+v", a)
	}
}

func TestAnErrorQuotesNothingOfWhatAProviderBroke(t *testing.T) {
	c := newCollege(t)
	b := browser{}
	target := c.login(t, c.jump(b, "/x"))
	c.provider.Change(func(b *openidtest.Behaviour) {
		b.Answer = func(w http.ResponseWriter, r *http.Request) bool {
			io.Copy(io.Discard, r.Body)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return true
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nSet-Cookie: session=adas-secret\x01\r\n\r\n")
			return true
		}
	})
	a := c.Callback(httptest.NewRecorder(), b.request("GET", target))
	if a.Err == nil || a.Landing || strings.Contains(a.Err.Error(), "adas-secret") || !strings.Contains(a.Err.Error(), "malformed MIME header") {
		t.Errorf("got %+v", a)
	}
}

func TestAPageOfATokenEndpointIsNotRepeated(t *testing.T) {
	c := newCollege(t)
	b := browser{}
	target := c.login(t, c.jump(b, "/x"))
	c.provider.Change(func(b *openidtest.Behaviour) {
		b.Answer = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "Blocked: ")
			io.Copy(w, r.Body) // the code and the verifier
			return true
		}
	})
	a := c.Callback(httptest.NewRecorder(), b.request("GET", target))
	if a.Err == nil || a.Landing || strings.Contains(a.Err.Error(), "code") || !strings.Contains(a.Err.Error(), "403 Forbidden") {
		t.Errorf("got %+v", a)
	}
}

func TestFloodsOfLoginsAreCapped(t *testing.T) {
	c := newCollege(t)
	limited := c.Provider
	limited.Browsers = c.state.Sessions(*limited.Browsers.Open(browser{}.request("GET", "/"), "x").Options, store.Limits{PerAddress: 2}, c.Client)
	for range 2 {
		c.login(t, c.jump(browser{}, "/x"))
	}
	if a := c.jump(browser{}, "/x"); a.Rule != gateway.RuleTooMany {
		t.Errorf("got %+v", a)
	}
}

func TestALearnerWhoComesBackFromTheProviderIsAsked(t *testing.T) {
	c := newCollege(t)
	c.with(func(o *idp.Options) {
		o.Unsigned, o.Now = gateway.UnsignedConfirm, func() time.Time { return c.now }
		o.Confirmations = func() [][32]byte { return [][32]byte{{2}} }
	})
	b := browser{}
	a, _ := c.comeBack(b, c.login(t, c.click(b, gateway.OriginCross, "")))
	if a.Confirm == nil || a.Origin != gateway.OriginCross || a.Confirm.Name != "Ada Lovelace" {
		t.Fatalf("%+v", a)
	}
	stranger := browser{}
	if _, header := c.comeBack(stranger, c.login(t, c.click(stranger, gateway.OriginOwn, ""))); header.Get("Set-Cookie") == "" {
		t.Error("no cookie")
	}
	if a := c.press(stranger, a.Confirm.Ticket); a.Rule != gateway.RuleConfirmOver {
		t.Errorf("by another login: %+v", a)
	}
	landing(t, c.press(b, a.Confirm.Ticket))
	landing(t, c.click(b, gateway.OriginCross, ""))
	if a := c.press(browser{}, a.Confirm.Ticket); a.Rule != gateway.RuleConfirmOver {
		t.Errorf("without a login: %+v", a)
	}
	b = browser{}
	a, _ = c.comeBack(b, c.login(t, c.click(b, gateway.OriginNone, "")))
	landing(t, a) // by the learner's own click
}

package sp_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
	"jumpgate/sp"
)

// applicationSite is a site that is no Moodle.
type applicationSite struct {
	*forum
	clock   atomic.Int64
	redis   *store.Redis
	trips   atomic.Int64
	keys    []*mnet.Key
	message *headerMoodle
}

var siteKey = sync.OnceValue(func() *mnet.Key { return newSiteKey("https://forum.test") })

func newSiteKey(site string) *mnet.Key {
	w, err := gateway.ParseWwwroot(site)
	if err != nil {
		panic(err)
	}
	key, err := mnet.NewKey(w, time.Now(), time.Hour)
	if err != nil {
		panic(err)
	}
	return key
}

func newApplicationSite(t testing.TB, algorithm string, change ...func(*gateway.Peer)) *applicationSite {
	t.Helper()
	m := &headerMoodle{answer: ada()}
	v := &applicationSite{forum: newHeaderForum(t, m, change...), keys: []*mnet.Key{siteKey()}, message: m}
	v.clock.Store(v.forum.now.UnixNano())
	now := func() time.Time { return time.Unix(0, v.clock.Load()) }
	var err error
	if v.redis, err = store.Open(store.Options{Addr: store.Embedded, Now: now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.redis.Close() })
	v.redis.Client().AddHook(counting{&v.trips})
	v.Landings.Now = now
	v.Landings.Logins.Door = nil
	visits := &sp.Visits{
		Site: v.Site, Peers: v.Peers, Store: v.redis.Site(v.Site), Now: now, Children: mnet.NewChildren(func(mnet.Logout) {}, nil),
		Call: func(context.Context, *gateway.Peer, string, ...mnet.Value) (mnet.Value, error) { return "", nil },
	}
	t.Cleanup(visits.Children.Wait)
	v.Landings.Logins.Visits = visits
	v.Landings.App = &sp.AppSessions{
		Site: v.Site, Peers: v.Peers, Store: v.redis.Site(v.Site), Visits: visits, Idle: time.Hour, Life: 2 * time.Hour, Now: now,
		Assertions: &sp.Assertions{Site: v.Site, Algorithm: algorithm, Keys: func() []*mnet.Key { return v.keys }, Now: now},
	}
	return v
}

// another returns the sessions as another gateway sees them.
func (v *applicationSite) another() *sp.AppSessions {
	return &sp.AppSessions{
		Site: v.Site, Peers: v.App.Peers, Store: v.App.Store, Visits: v.App.Visits, Assertions: v.App.Assertions, Idle: v.App.Idle, Life: v.App.Life, Now: v.App.Now,
	}
}

// homeSays calls a method as a home does.
func (v *applicationSite) homeSays(home, method string, params ...mnet.Value) (mnet.Value, error) {
	for _, m := range v.App.Visits.Methods() {
		if m.Name == "auth/mnet/auth.php/"+method {
			return m.Call(context.Background(), &mnet.Call{Peer: v.Peers.Exact(home), Params: params})
		}
	}
	return nil, errors.New("no such method")
}

func (v *applicationSite) advance(d time.Duration) { v.clock.Add(int64(d)) }

type counting struct{ n *atomic.Int64 }

func (c counting) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}
func (c counting) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { c.n.Add(1); return next(ctx, cmd) }
}
func (c counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { c.n.Add(1); return next(ctx, cmds) }
}

// land lets the learner of the home's answer land in a browser with cookies.
func (v *applicationSite) land(t testing.TB, token string, cookies ...*http.Cookie) sp.Arrival {
	t.Helper()
	r := visit("GET", strings.Replace(landing, "token=abc", "token="+token, 1), "")
	r.Header.Set("User-Agent", firefox)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	a := v.Arrive(r)
	if a.Final() {
		t.Fatalf("%+v", a)
	}
	return v.LogIn(r, a)
}

// asserted returns what the application is told about a request.
func (v *applicationSite) asserted(t testing.TB, cookies ...*http.Cookie) string {
	t.Helper()
	r := httptest.NewRequest("GET", "https://forum.test/x", nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	assertion, err := v.App.Assertion(r)
	if err != nil {
		t.Fatal(err)
	}
	return assertion
}

func TestASessionAtAnApplication(t *testing.T) {
	v := newApplicationSite(t, sp.AlgorithmEdDSA)
	if v.asserted(t) != "" || v.trips.Load() != 0 {
		t.Fatalf("nobody is somebody, or costs %d round trips", v.trips.Load())
	}
	a := v.land(t, "one")
	if a.Outcome != sp.OutcomeLanded || a.Err != nil || a.Location != "https://forum.test/mod/x#p3" || a.Session == nil || a.Cookies != nil {
		t.Fatalf("%+v", a)
	}
	c := a.Session
	if !strings.HasPrefix(c.Name, "__Host-jumpgate-session-") || len(c.Value) != 40 || c.Path != "/" || c.Domain != "" || !c.HttpOnly || !c.Secure ||
		c.SameSite != http.SameSiteLaxMode || c.MaxAge != 0 || !c.Expires.IsZero() {
		t.Errorf("the cookie is %s", c)
	}
	before := v.trips.Load()
	first := v.asserted(t, c)
	if n := v.trips.Load() - before; first == "" || n != 1 {
		t.Errorf("%q, by %d round trips", first, n)
	}
	v.advance(29 * time.Second)
	before = v.trips.Load()
	if again := v.asserted(t, c); again != first || v.trips.Load()-before != 1 {
		t.Errorf("half a minute later another one, or by %d round trips", v.trips.Load()-before)
	}
	v.advance(time.Second)
	if next := v.asserted(t, c); next == first || next == "" {
		t.Error("an assertion is used for too long")
	}
	for what, cookie := range map[string]string{"another": strings.Repeat("x", 40), "a long one": strings.Repeat("x", 4000), "none": "", "a part of it": c.Value[:39]} {
		if v.asserted(t, &http.Cookie{Name: c.Name, Value: cookie}) != "" {
			t.Errorf("%s counts", what)
		}
	}
	if v.asserted(t, &http.Cookie{Name: strings.TrimPrefix(c.Name, "__Host-"), Value: c.Value}) != "" {
		t.Error("the cookie counts without its prefix")
	}
}

func TestASessionAtAnApplicationIsOver(t *testing.T) {
	for what, end := range map[string]func(*applicationSite, *http.Cookie){
		"after its life": func(v *applicationSite, _ *http.Cookie) { v.advance(2 * time.Hour) },
		"by a logout": func(v *applicationSite, c *http.Cookie) {
			r := httptest.NewRequest("POST", "https://forum.test/jumpgate/logout", nil)
			r.AddCookie(c)
			d, gone, err := v.App.Leave(r)
			if err != nil || gone.MaxAge >= 0 || gone.Name != c.Name || gone.Value != "" || d.Visit.Account != "ada@home.test" || d.Visit.Username != "ada" || d.Location != "https://home.test/" {
				t.Errorf("%+v %v %v", d, gone, err)
			}
		},
		"by a logout at another gateway": func(v *applicationSite, c *http.Cookie) {
			r := httptest.NewRequest("POST", "https://forum.test/jumpgate/logout", nil)
			r.AddCookie(c)
			if _, _, err := v.another().Leave(r); err != nil {
				t.Error(err)
			}
		},
		"by a logout of which Redis has lost a part": func(v *applicationSite, c *http.Cookie) {
			keys, err := v.redis.Client().Keys(t.Context(), "*:visit*").Result()
			if err == nil {
				err = v.redis.Client().Del(t.Context(), keys...).Err()
			}
			r := httptest.NewRequest("POST", "https://forum.test/jumpgate/logout", nil)
			r.AddCookie(c)
			if d, _, left := v.App.Leave(r); err != nil || left != nil || d.Location != "" {
				t.Error(d, err, left)
			}
		},
		"by a logout at home": func(v *applicationSite, _ *http.Cookie) {
			if answer, err := v.homeSays("https://home.test", "kill_child", "ada", agentOf(firefox)); answer != true || err != nil {
				t.Errorf("answered %v, %v", answer, err)
			}
		},
		"by an administrator": func(v *applicationSite, _ *http.Cookie) {
			if err := v.App.Visits.EndVisits(t.Context(), wwwroot(t, "https://home.test"), "ada"); err != nil {
				t.Error(err)
			}
		},
		"when its home is switched off": func(v *applicationSite, _ *http.Cookie) { v.Peers.Peers()[0].Off = true },
		"when its home has no grant":    func(v *applicationSite, _ *http.Cookie) { v.Peers.Peers()[0].Subscribe = nil },
		"when its home is no peer":      func(v *applicationSite, _ *http.Cookie) { v.App.Peers, _ = gateway.NewAllowlist() },
		"when its learner may not come": func(v *applicationSite, _ *http.Cookie) {
			v.Peers.Peers()[0].Access.Deny, _ = gateway.NewUserList("ada")
		},
		"when another takes its place": func(v *applicationSite, c *http.Cookie) { v.land(t, "two", c) },
		"seconds after it was seen": func(v *applicationSite, c *http.Cookie) {
			if v.advance(2*time.Hour - time.Second); v.asserted(t, c) == "" {
				t.Error("it ends before its time")
			}
			v.advance(time.Second)
		},
	} {
		t.Run(what, func(t *testing.T) {
			v := newApplicationSite(t, sp.AlgorithmEdDSA)
			c := v.land(t, "one").Session
			if v.asserted(t, c) == "" {
				t.Fatal("it has not begun")
			}
			end(v, c)
			if v.asserted(t, c) != "" {
				t.Error("it goes on for who was seen a moment ago")
			}
			v.App.Store = v.redis.Site(v.Site)
			v.App = v.another()
			if v.asserted(t, c) != "" {
				t.Error("it goes on at another gateway")
			}
		})
	}
}

func TestASessionAtAnApplicationNeedsRedis(t *testing.T) {
	v := newApplicationSite(t, sp.AlgorithmEdDSA)
	c := v.land(t, "one").Session
	known := v.asserted(t, c)
	v.redis.Close()
	r := httptest.NewRequest("GET", "https://forum.test/x", nil)
	r.AddCookie(c)
	if assertion, err := v.App.Assertion(r); err == nil || assertion != "" || known == "" {
		t.Errorf("%q, %v", assertion, err)
	}
	if _, gone, err := v.App.Leave(r); err == nil || gone != nil {
		t.Errorf("a logout: %v, %v", gone, err)
	}
	if a := v.land(t, "two"); a.Err == nil || a.Session != nil || a.Location != "" {
		t.Errorf("a landing: %+v", a)
	}
	if v.asserted(t) != "" {
		t.Error("nobody is somebody")
	}
}

// TestWhatIsRememberedOfABrowserIsSmall has browsers send far more than the cookie.
func TestWhatIsRememberedOfABrowserIsSmall(t *testing.T) {
	v := newApplicationSite(t, sp.AlgorithmEdDSA)
	inUse := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const browsers, size = 64, 200 << 10
	var before uint64
	for i := range browsers + 1 {
		c := v.land(t, fmt.Sprint("token", i)).Session
		r := httptest.NewRequest("GET", "https://forum.test/x", nil)
		r.Header.Set("Cookie", c.Name+"="+c.Value+"; other="+strings.Repeat("x", size))
		if assertion, err := v.App.Assertion(r); assertion == "" || err != nil {
			t.Fatalf("%q, %v", assertion, err)
		}
		if i == 0 {
			before = inUse()
		}
	}
	if grown := int64(inUse()) - int64(before); grown > browsers*size/4 {
		t.Errorf("%d browsers cost %d bytes", browsers, grown)
	}
	runtime.KeepAlive(v)
}

// parts reads a JWT without any library for them.
func parts(t testing.TB, token string) (header, claims map[string]any, signed string, signature []byte) {
	t.Helper()
	p := strings.Split(token, ".")
	if len(p) != 3 {
		t.Fatalf("%q", token)
	}
	for i, to := range []*map[string]any{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(p[i])
		if err == nil {
			err = json.Unmarshal(text, to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	signature, err := base64.RawURLEncoding.DecodeString(p[2])
	if err != nil {
		t.Fatal(err)
	}
	return header, claims, p[0] + "." + p[1], signature
}

// keySet returns the published keys by their ids.
func (v *applicationSite) keySet(t testing.TB) map[string]map[string]string {
	t.Helper()
	text, err := v.App.Assertions.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]string{}
	for _, key := range set.Keys {
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if key[private] != "" {
				t.Errorf("the key set has the member %s of a private key", private)
			}
		}
		all[key["kid"]] = key
	}
	if len(all) != len(set.Keys) {
		t.Errorf("two keys have one id: %s", text)
	}
	return all
}

func TestAnAssertion(t *testing.T) {
	v := newApplicationSite(t, sp.AlgorithmEdDSA)
	now := v.clock.Load() / int64(time.Second)
	header, claims, signed, signature := parts(t, v.asserted(t, v.land(t, "one").Session))
	key := v.keySet(t)[header["kid"].(string)]
	public, err := base64.RawURLEncoding.DecodeString(key["x"])
	if err != nil || !ed25519.Verify(public, []byte(signed), signature) {
		t.Errorf("the signature is not that of %v", key)
	}
	if diff := cmp.Diff(map[string]any{"typ": "jumpgate-assertion+jwt", "alg": "EdDSA", "kid": key["kid"]}, header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if id, _ := claims["jti"].(string); len(id) < 26 {
		t.Errorf("jti %q", id)
	}
	delete(claims, "jti")
	want := map[string]any{
		"iss": "https://forum.test", "aud": "https://forum.test", "sub": "ada@home.test", "preferred_username": "ada@home.test",
		"home": "https://home.test", "home_username": "ada", "name": "Ada Lovelace", "given_name": "Ada", "family_name": "Lovelace",
		"email": "ada@home.test", "email_verified": false, "locale": "en-GB", "address": map[string]any{"locality": "London", "country": "GB"},
		"iat": float64(now), "nbf": float64(now - 5), "exp": float64(now + 60),
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestALocale(t *testing.T) {
	for lang, want := range map[string]any{"": nil, "de": "de", "de_utf8": "de", "en_gb": "en-GB", "pt_br_utf8": "pt-BR", "de_kids": "de", "en_us_k12": "en-US"} {
		v := newApplicationSite(t, sp.AlgorithmEdDSA)
		v.message.answer = with("lang", lang)
		_, claims, _, _ := parts(t, v.asserted(t, v.land(t, "one").Session))
		if claims["locale"] != want {
			t.Errorf("%q is %v, want %v", lang, claims["locale"], want)
		}
	}
}

// TestALibraryVerifiesAssertions does what an application does that has a library,
// and must find each of these attempts wrong.
func TestALibraryVerifiesAssertions(t *testing.T) {
	for _, algorithm := range []string{sp.AlgorithmEdDSA, sp.AlgorithmRS256} {
		v := newApplicationSite(t, algorithm)
		good := v.asserted(t, v.land(t, "one").Session)
		stranger := newApplicationSite(t, algorithm)
		stranger.keys = []*mnet.Key{newSiteKey("https://forum.test")}
		forged := stranger.asserted(t, stranger.land(t, "one").Session)
		header, claims, signed, _ := parts(t, good)
		for _, test := range []struct {
			name, token, audience string
			after                 time.Duration
			good                  bool
		}{
			{"as it is", good, "https://forum.test", 0, true},
			{"at its end", good, "https://forum.test", 59 * time.Second, true},
			{"too late", good, "https://forum.test", time.Minute, false},
			{"too early", good, "https://forum.test", -6 * time.Second, false},
			{"for another application", good, "https://other.test", 0, false},
			{"of another gateway", forged, "https://forum.test", 0, false},
			{"without a signature", signed + ".", "https://forum.test", 0, false},
			{"by no algorithm", unsigned(header, claims, "none") + ".", "https://forum.test", 0, false},
		} {
			_, err := jwt.Parse(test.token, func(token *jwt.Token) (any, error) {
				id, _ := token.Header["kid"].(string)
				return publicKey(t, v.keySet(t)[id])
			}, jwt.WithValidMethods([]string{algorithm}), jwt.WithIssuer("https://forum.test"), jwt.WithAudience(test.audience), jwt.WithExpirationRequired(),
				jwt.WithTimeFunc(func() time.Time { return v.App.Now().Add(test.after) }))
			if (err == nil) != test.good {
				t.Errorf("%s: %s: %v", algorithm, test.name, err)
			}
		}
	}
}

func unsigned(header, claims map[string]any, algorithm string) string {
	header["alg"] = algorithm
	var texts []string
	for _, part := range []map[string]any{header, claims} {
		text, _ := json.Marshal(part)
		texts = append(texts, base64.RawURLEncoding.EncodeToString(text))
	}
	return strings.Join(texts, ".")
}

func TestKeysChangeByThemselvesAndAreKnownBefore(t *testing.T) {
	v := newApplicationSite(t, sp.AlgorithmEdDSA)
	other := newApplicationSite(t, sp.AlgorithmEdDSA) // another gateway, with the same MNet key
	signs := func(v *applicationSite) string {
		v.App.Idle, v.App.Life = 1000*time.Hour, 2000*time.Hour
		header, _, _, _ := parts(t, v.asserted(t, v.land(t, rand.Text()).Session))
		return header["kid"].(string)
	}
	used := map[string]bool{}
	last := v.keySet(t)
	for range 4 {
		set, id := v.keySet(t), signs(v)
		if len(set) != 3 || set[id] == nil || last[id] == nil || used[id] {
			t.Errorf("%s signs, of %d keys; known before %t, used before %t", id, len(set), last[id] != nil, used[id])
		}
		if signs(other) != id {
			t.Error("two gateways sign with different keys")
		}
		used[id], last = true, set
		v.advance(30 * 24 * time.Hour)
		other.advance(30 * 24 * time.Hour)
	}
	v.keys = []*mnet.Key{newSiteKey("https://forum.test")}
	if set := v.keySet(t); set[signs(v)] == nil || used[signs(v)] || len(set) != 3 {
		t.Error("a new MNet key changes nothing")
	}
}

func TestAFormerKeyIsKnownForAnHour(t *testing.T) {
	dir := t.TempDir()
	site := wwwroot(t, "https://forum.test")
	ring, _, err := mnet.OpenKeyring(mnet.KeyringOptions{Dir: dir, Site: site, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range []string{sp.AlgorithmEdDSA, sp.AlgorithmRS256} {
		var offset time.Duration
		a := &sp.Assertions{Site: site, Algorithm: algorithm, Keys: ring.Keys, Now: func() time.Time { return time.Now().Add(offset) }}
		v := &applicationSite{forum: &forum{Landings: &sp.Landings{App: &sp.AppSessions{Assertions: a}}}}
		before, err := a.Sign(store.AppSession{})
		if err != nil {
			t.Fatal(err)
		}
		if err := ring.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		header, _, _, _ := parts(t, before)
		if id := header["kid"].(string); v.keySet(t)[id] == nil {
			t.Errorf("%s: the key is gone before what it has signed", algorithm)
		}
		offset = time.Hour + time.Minute
		if id := header["kid"].(string); v.keySet(t)[id] != nil {
			t.Errorf("%s: a former key is good for ever", algorithm)
		}
	}
}

func BenchmarkAssertion(b *testing.B) {
	for _, algorithm := range []string{sp.AlgorithmEdDSA, sp.AlgorithmRS256} {
		v := newApplicationSite(b, algorithm)
		c := v.land(b, "one").Session
		r := httptest.NewRequest("GET", "https://forum.test/x", nil)
		r.AddCookie(c)
		b.Run(algorithm+" again", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.App.Assertion(r); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(algorithm+" signed", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.App.Assertions.Sign(store.AppSession{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// publicKey reads a published key.
func publicKey(t testing.TB, key map[string]string) (any, error) {
	t.Helper()
	read := func(name string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(key[name])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	switch key["kty"] {
	case "OKP":
		return ed25519.PublicKey(read("x")), nil
	case "RSA":
		return &rsa.PublicKey{N: new(big.Int).SetBytes(read("n")), E: int(new(big.Int).SetBytes(read("e")).Int64())}, nil
	}
	return nil, errors.New("no such key")
}

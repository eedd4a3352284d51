package sp_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"jumpgate/gateway"
	"jumpgate/sp"
)

func wwwroot(t testing.TB, s string) gateway.Wwwroot {
	t.Helper()
	w, err := gateway.ParseWwwroot(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// homes is a forum's memory of homes, at a time that stands still.
func homes(t testing.TB, site string) *sp.Homes {
	peers, err := gateway.NewAllowlist(
		&gateway.Peer{Wwwroot: wwwroot(t, "https://home.test")},
		&gateway.Peer{Wwwroot: wwwroot(t, "https://other.test")})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1795336536, 0)
	return &sp.Homes{Site: wwwroot(t, site), Peers: peers, Keys: func() [][32]byte { return [][32]byte{{1, 2, 3}} }, Now: func() time.Time { return now }}
}

func TestAHomeIsRememberedInACookie(t *testing.T) {
	h := homes(t, "https://forum.test")
	header := http.Header{"Set-Cookie": {"MoodleSession=abc"}}
	h.Remember(header, h.Peers.Find("https://home.test"))
	added := header["Set-Cookie"][1:]
	if len(added) != 1 {
		t.Fatalf("cookies added: %q", added)
	}
	c, err := http.ParseSetCookie(added[0])
	if err != nil || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || !strings.HasPrefix(c.Name, "__Host-jumpgate-home-") {
		t.Errorf("cookie %+v, %v", c, err)
	}
	back := httptest.NewRequest("GET", "https://forum.test/", nil)
	back.AddCookie(c)
	if home, err := h.Home(back); err != nil || home.Wwwroot.String() != "https://home.test" {
		t.Errorf("remembered %v, %v", home, err)
	}
}

func TestAForgedHomeIsNotBelieved(t *testing.T) {
	h := homes(t, "https://forum.test")
	good, err := h.Cookie(h.Peers.Find("https://home.test"))
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.RegisteredClaims{
		Issuer: "https://forum.test", Audience: jwt.ClaimStrings{"jumpgate-home"}, Subject: "https://other.test",
		ExpiresAt: jwt.NewNumericDate(h.Now().Add(time.Hour)),
	}
	sign := func(method jwt.SigningMethod, key any, change func(*jwt.RegisteredClaims)) string {
		c := claims
		if change != nil {
			change(&c)
		}
		s, err := jwt.NewWithClaims(method, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	part := strings.Split(good.Value, ".")
	key := h.Keys()[0]
	tests := []struct {
		name, value string
		ok          bool
	}{
		{"our own", good.Value, true},
		{"signed by us for another home that is a peer", sign(jwt.SigningMethodHS256, key[:], nil), true},
		{"signed with another key", sign(jwt.SigningMethodHS256, []byte("x"), nil), false},
		{"not signed", sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil), false},
		{"signed by another method", sign(jwt.SigningMethodHS512, key[:], nil), false},
		{"of another site", sign(jwt.SigningMethodHS256, key[:], func(c *jwt.RegisteredClaims) { c.Issuer = "https://sp.test" }), false},
		{"for another use", sign(jwt.SigningMethodHS256, key[:], func(c *jwt.RegisteredClaims) { c.Audience = jwt.ClaimStrings{"x"} }), false},
		{"expired", sign(jwt.SigningMethodHS256, key[:], func(c *jwt.RegisteredClaims) { c.ExpiresAt = jwt.NewNumericDate(h.Now().Add(-time.Second)) }), false},
		{"without an end", sign(jwt.SigningMethodHS256, key[:], func(c *jwt.RegisteredClaims) { c.ExpiresAt = nil }), false},
		{"no peer any more", sign(jwt.SigningMethodHS256, key[:], func(c *jwt.RegisteredClaims) { c.Subject = "https://gone.test" }), false},
		{"other claims under the old signature", part[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"https://other.test"}`)) + "." + part[2], false},
		{"no token", "x", false},
		{"nothing", "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "https://forum.test/", nil)
			r.AddCookie(&http.Cookie{Name: good.Name, Value: test.value})
			if home, err := h.Home(r); (err == nil) != test.ok || (home != nil) != test.ok {
				t.Errorf("home %v, %v", home, err)
			}
		})
	}
}

func TestAHomeRememberedUnderAnOldNameIsRemembered(t *testing.T) {
	before := homes(t, "http://forum.test")
	cookie, err := before.Cookie(before.Peers.Find("https://home.test"))
	if err != nil {
		t.Fatal(err)
	}
	after := homes(t, "https://forum.test")
	r := httptest.NewRequest("GET", "https://forum.test/", nil)
	r.AddCookie(cookie)
	if home, err := after.Home(r); err == nil {
		t.Errorf("without the alias: %v", home)
	}
	after.Aliases = []gateway.Wwwroot{wwwroot(t, "https://old.test"), wwwroot(t, "http://forum.test")}
	if home, err := after.Home(r); err != nil || home.Wwwroot.String() != "https://home.test" {
		t.Errorf("%v, %v", home, err)
	}

	// The home has moved too: what is remembered is its old name.
	peers, err := gateway.NewAllowlist(&gateway.Peer{
		Wwwroot: wwwroot(t, "https://new-home.test"), Aliases: []gateway.Wwwroot{wwwroot(t, "https://home.test")},
	})
	if err != nil {
		t.Fatal(err)
	}
	after.Peers = peers
	if home, err := after.Home(r); err != nil || home.Wwwroot.String() != "https://new-home.test" {
		t.Errorf("a home that has moved: %v, %v", home, err)
	}

	// What is remembered now counts, and a bad one is not replaced by an old one.
	r.AddCookie(&http.Cookie{Name: after.Site.CookieName("home"), Value: "x"})
	if home, err := after.Home(r); err == nil {
		t.Errorf("past a bad cookie: %v", home)
	}
}

func TestAHomeThatIsOffOrOverIsNoHomeAnyMore(t *testing.T) {
	h := homes(t, "https://forum.test")
	cookie, err := h.Cookie(h.Peers.Find("https://home.test"))
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "https://forum.test/", nil)
	r.AddCookie(cookie)
	for name, home := range map[string]*gateway.Peer{"on": {}, "off": {Off: true}, "over": {Expires: h.Now()}} {
		home.Wwwroot = wwwroot(t, "https://home.test")
		if h.Peers, err = gateway.NewAllowlist(home); err != nil {
			t.Fatal(err)
		}
		if got, err := h.Home(r); (err == nil) != (name == "on") || err == nil && got != home {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

package web

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/idp"
)

// straySite is a site with a peer, one that is switched off, and one that is
// over. It has no OpenID provider.
func straySite(t *testing.T) *Site {
	t.Helper()
	parse := func(s string) gateway.Wwwroot {
		w, err := gateway.ParseWwwroot(s)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	peers, err := gateway.NewAllowlist(
		&gateway.Peer{Wwwroot: parse("https://sp.test/moodle")},
		&gateway.Peer{Wwwroot: parse("https://off.test"), Off: true},
		&gateway.Peer{Wwwroot: parse("https://over.test"), Expires: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	site := parse("https://home.test/learn")
	return &Site{Wwwroot: site, Peers: peers, IDP: idp.New(idp.Options{Site: site, Peers: peers})}
}

// TestAStrayRedirectIsStopped sends out what no decision ever was: nothing but
// the site itself and open peers gets past.
func TestAStrayRedirectIsStopped(t *testing.T) {
	tests := []struct {
		location string
		leads    bool
	}{
		{"https://home.test/learn/login/index.php?jumpgate=x", true},
		{"https://home.test/learn/", true},
		{"https://sp.test/moodle/auth/mnet/land.php?token=t&idp=https://home.test/learn&wantsurl=%2F", true},
		{"https://sp.test/moodle/mod/x?y=//evil.test#z", true},
		{"", false},
		{"/learn/my/", false},
		{"//evil.test/", false},
		{"https://home.test/", false},
		{"https://home.test/learnt/", false},
		{"https://home.test.evil.test/learn/", false},
		{"https://home.test@evil.test/learn/", false},
		{"https://sp.test/", false},
		{"https://sp.test/moodle/../x", false},
		{"https://sp.test.evil.test/moodle/", false},
		{"http://sp.test/moodle/", false},
		{"https://off.test/", false},
		{"https://over.test/", false},
		{"https://evil.test/?token=secret", false},
		{"https://home.test/learn/\r\nSet-Cookie: a=b", false},
		{"javascript:alert(1)", false},
	}
	site := straySite(t)
	for _, test := range tests {
		w := httptest.NewRecorder()
		err := (&Handler{}).redirect(w, httptest.NewRequest("GET", "https://home.test/", nil), site, http.StatusSeeOther, test.location)
		got := w.Header()
		switch {
		case test.leads && (err != nil || w.Code != 303 || got.Get("Location") != test.location || got.Get("Cache-Control") != "no-store" || got.Get("Referrer-Policy") != "no-referrer"):
			t.Errorf("%q: %d %v, %v", test.location, w.Code, got, err)
		case !test.leads && (!errors.Is(err, errStray) || w.Code != 500 || len(got["Location"]) > 0 || strings.Contains(w.Body.String(), "evil")):
			t.Errorf("%q: %d %v, %v\n%s", test.location, w.Code, got, err, w.Body)
		}
	}
	if err := (&Handler{}).redirect(httptest.NewRecorder(), httptest.NewRequest("GET", "https://home.test/", nil), &Site{Wwwroot: site.Wwwroot}, 303, "https://sp.test/moodle/"); err == nil {
		t.Error("a site without peers sends somebody to one")
	}
}

func TestEveryRuleThatRefusesHasAPage(t *testing.T) {
	for _, m := range gateway.Rules() {
		if p := problemOf(m.Rule); !m.Allows && (p.Status < 400 || p.Title == "" || p.Text == "" || p.Advice == "") {
			t.Errorf("%s: %+v", m.Rule, p)
		}
	}
	for _, rule := range []gateway.Rule{gateway.RulePeerOff, gateway.RulePeerExpired} {
		if p := problemOf(rule); p.Status != http.StatusForbidden || p == badLink {
			t.Errorf("%s: %+v", rule, p)
		}
	}
}

package web_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/sessions"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/proxy"
	"jumpgate/gateway/store"
	"jumpgate/idp"
	"jumpgate/sp"
	"jumpgate/web"
)

// named is a gateway in front of a site with aliases, of which it knows whose
// every session is.
func named(t testing.TB, who idp.Source, out io.Writer, peers *gateway.Allowlist, root string, aliases ...string) (http.Handler, *web.Metrics) {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "upstream "+r.RequestURI)
	}))
	t.Cleanup(upstream.Close)
	behind, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	redis, err := store.Open(store.Options{Addr: store.Embedded})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { redis.Close() })
	site, log := wwwroot(t, root), slog.New(slog.NewTextHandler(out, nil))
	metrics := web.NewMetrics(redis.Up)
	through, err := proxy.New(proxy.Options{
		Upstream: behind, Site: site, RequestID: web.RequestID, ErrorPage: web.UpstreamFailed(site, log, metrics),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(through.CloseIdle)
	var names []gateway.Wwwroot
	for _, alias := range aliases {
		names = append(names, wwwroot(t, alias))
	}
	address := func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") }
	state := redis.Site(site)
	return web.NewHandler([]*web.Site{{
		Wwwroot: site, Aliases: names, Peers: peers, Proxy: through,
		IDP: idp.New(idp.Options{
			Site: site, Aliases: names, Peers: peers, Source: who, Store: state, Cookie: "MoodleSession",
			Browsers:       state.Sessions(sessions.Options{Path: "/", MaxAge: 900}, store.Limits{}, address),
			SessionTimeout: time.Hour, Client: address,
		}),
		Homes:     &sp.Homes{Site: site, Aliases: names, Peers: peers, Now: time.Now},
		Landings:  landings(site, peers, who, state, address),
		RPC:       http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Method+" rpc") }),
		PublicKey: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "key") }),
	}}, nil, log, metrics), metrics
}

// forums is a list of https://sp.test (3) and of others.
func forums(t testing.TB, others ...*gateway.Peer) *gateway.Allowlist {
	t.Helper()
	l, err := gateway.NewAllowlist(append(others, &gateway.Peer{
		Wwwroot: wwwroot(t, "https://sp.test"), HostID: 3, Application: gateway.Moodle,
		Publish: []string{gateway.ServiceSSOIDP}, Subscribe: []string{gateway.ServiceSSOSP},
	})...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// bob is a source that knows only bob, whose home has the id 7.
type bob struct{}

func (bob) Identity(context.Context, moodle.Browser) (gateway.Identity, error) {
	return gateway.Identity{Remote: true, User: gateway.User{
		ID: 4, Username: "bob", FirstName: "Bob", LastName: "B", Email: "bob@bobs.test", MnetHostID: 7,
	}}, nil
}

func TestARemoteLearnerIsSentHomeOrToldTheWay(t *testing.T) {
	deny, err := gateway.NewUserList("bob")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		peer    *gateway.Peer
		status  int
		page    []string
		never   string
		log     string
		counted string
	}{
		{"a home that is a peer", &gateway.Peer{Application: gateway.Moodle}, 303, nil, "",
			"outcome=home rule=path", `outcome="home",peer="https://sp.test",rule="path"`},
		{"a home that cannot be jumped from", &gateway.Peer{Application: gateway.Mahara, Name: "Bob's <School>"}, 403,
			[]string{"belongs to Bob&#39;s &lt;School&gt;", `href="https://bobs.test/"`, "user-remote"}, "home.test",
			"outcome=refused rule=user-remote", `outcome="refused",peer="https://sp.test",rule="user-remote"`},
		{"a home whose learner is not let in", &gateway.Peer{Application: gateway.Moodle, Access: gateway.Access{Deny: deny}}, 403,
			[]string{"may not use this site", "user-access", "<dd>bob</dd>"}, "hub=1",
			"outcome=refused rule=user-access", `outcome="refused",peer="https://sp.test",rule="user-access"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.peer.Wwwroot, test.peer.HostID = wwwroot(t, "https://bobs.test"), 7
			log := &logBuffer{}
			h, metrics := named(t, bob{}, log, forums(t, test.peer), "https://home.test")
			r := httptest.NewRequest("GET", "https://home.test/auth/mnet/jump.php?hostid=3&wantsurl=/x", nil)
			asAda(r)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != test.status || (w.Header().Get("Location") == "") != (test.status != 303) {
				t.Fatalf("%d %v", w.Code, w.Header())
			}
			for _, want := range test.page {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("the page lacks %q:\n%s", want, w.Body)
				}
			}
			if test.never != "" && strings.Contains(w.Body.String(), test.never) {
				t.Errorf("the page has %q:\n%s", test.never, w.Body)
			}
			if line := log.String(); !strings.Contains(line, test.log) || !strings.Contains(line, "user=bob home=https://bobs.test") {
				t.Errorf("the log: %s", line)
			}
			admin := httptest.NewRecorder()
			web.NewAdmin(metrics, func() string { return "" }).ServeHTTP(admin, httptest.NewRequest("GET", "/metrics", nil))
			if !strings.Contains(admin.Body.String(), "jumpgate_jumps_total{"+test.counted) {
				t.Errorf("the metrics lack %s", test.counted)
			}
		})
	}
}

func TestAnAliasLeadsToTheSite(t *testing.T) {
	const jump = "/auth/mnet/jump.php?hostid=3&wantsurl=%2Fx"
	const canonical = "/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fsp.test&wantsurl=%2Fx"
	for _, site := range []struct {
		root    string
		aliases []string
		tests   [][4]string // method, address, status, and location or body
	}{
		{"https://home.test", []string{"http://old.test", "https://old.test:8443", "https://shared.test/moodle"}, [][4]string{
			{"GET", "http://old.test/mod/x.php?id=1&b=%2F#", "400", "This address is damaged"},
			{"GET", "http://old.test/mod/x.php?id=1&b=%2F", "301", "https://home.test/mod/x.php?id=1&b=%2F"},
			{"HEAD", "http://old.test/", "301", "https://home.test/"},
			{"POST", "http://old.test/login/index.php", "308", "https://home.test/login/index.php"},
			{"GET", "http://OLD.test:80/", "301", "https://home.test/"},
			{"GET", "https://old.test:8443/x", "301", "https://home.test/x"},
			{"GET", "https://old.test:9443/x", "404", "There is no site at this address"},
			{"GET", "https://old.test:443/x", "404", "There is no site at this address"},
			{"GET", "http://old.test//evil.test/x", "301", "https://home.test//evil.test/x"},
			{"GET", "http://old.test/%5Cevil.test/a%20b", "301", "https://home.test/%5Cevil.test/a%20b"},
			{"GET", "http://old.test/@evil.test", "301", "https://home.test/@evil.test"},
			{"GET", "http://old.test/auth/mnet/land.php?token=x&idp=y", "301", "https://home.test/auth/mnet/land.php?token=x&idp=y"},
			{"GET", "http://old.test" + jump, "303", "https://home.test" + canonical},
			{"HEAD", "http://old.test" + jump, "303", "https://home.test" + canonical},
			{"GET", "http://old.test/auth/mnet/jump.php?hostid=3&wantsurl=//evil.test", "403", "scheme-relative"},
			{"GET", "http://old.test/auth/mnet/jump.php?hostid=4", "404", "peer-unknown"},
			{"POST", "http://old.test" + jump, "405", "That does not work here"},
			{"GET", "http://old.test/auth/mnet//jump.php", "404", "There is no such page"},
			{"POST", "http://old.test/mnet/xmlrpc/server.php", "200", "POST rpc"},
			{"GET", "http://old.test/mnet/publickey.php", "200", "key"},
			{"GET", "https://shared.test/moodle/x?y", "301", "https://home.test/x?y"},
			{"GET", "https://shared.test/moodle", "301", "https://home.test/"},
			{"GET", "https://shared.test/%6Doodle/a%2Fb", "301", "https://home.test/a/b"},
			{"GET", "https://shared.test/moodle" + jump, "303", "https://home.test" + canonical},
			{"POST", "https://shared.test/moodle/mnet/xmlrpc/server.php", "200", "POST rpc"},
			{"GET", "https://shared.test/moodle2/x", "404", "There is no site at this address"},
			{"GET", "https://shared.test/auth/mnet/jump.php?hostid=3", "404", "There is no site at this address"},
			{"GET", "https://home.test/x", "200", "upstream /x"},
			{"GET", "https://home.test" + jump, "303", "https://home.test/login/index.php?jumpgate="},
		}},
		// The same host: only the path can tell, and the port if it is there.
		{"https://home.test", []string{"http://home.test", "https://home.test/moodle"}, [][4]string{
			{"GET", "http://home.test/x", "200", "upstream /x"},
			{"GET", "http://home.test:80/x", "301", "https://home.test/x"},
			{"GET", "http://home.test" + jump, "303", "https://home.test/login/index.php?jumpgate="},
			{"GET", "https://home.test/moodle/x", "301", "https://home.test/x"},
			{"GET", "https://home.test/moodle" + jump, "303", "https://home.test" + canonical},
			{"GET", "https://home.test/moodles", "200", "upstream /moodles"},
		}},
		{"https://home.test/moodle", []string{"https://home.test"}, [][4]string{
			{"GET", "https://home.test/moodle/x", "200", "upstream /moodle/x"},
			{"GET", "https://home.test/x", "301", "https://home.test/moodle/x"},
			{"GET", "https://home.test" + jump, "303", "https://home.test/moodle" + canonical},
			{"GET", "https://home.test/moodle/moodle/x", "200", "upstream /moodle/moodle/x"},
		}},
	} {
		h, _ := named(t, source{}, io.Discard, forums(t), site.root, site.aliases...)
		for _, test := range site.tests {
			method, address, status, want := test[0], test[1], test[2], test[3]
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(method, address, nil))
			got := w.Header().Get("Location")
			if got == "" {
				got = w.Body.String()
			}
			exact := w.Code == 301 || w.Code == 308 || strings.Contains(want, "jump.php")
			if http.StatusText(w.Code) == "" || status != strings.Fields(w.Result().Status)[0] || !strings.Contains(got, want) || exact && got != want {
				t.Errorf("%s, %s %s: %d %.200s, want %s %s", site.root, method, address, w.Code, got, status, want)
			}
			if w.Code > 300 && w.Code < 400 && w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s: Cache-Control %q", method, address, w.Header().Get("Cache-Control"))
			}
		}
	}
}

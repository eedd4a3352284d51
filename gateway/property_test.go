package gateway_test

import (
	"math/rand/v2"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	whatwg "github.com/nlnwa/whatwg-url/url"

	"jumpgate/gateway"
)

// neighbours are peers of every kind that a list may hold.
func neighbours(t testing.TB) []*gateway.Peer {
	granted := func(p *gateway.Peer, root string) *gateway.Peer {
		p.Wwwroot, p.Publish, p.Subscribe = wwwroot(t, root), []string{gateway.ServiceSSOIDP}, []string{gateway.ServiceSSOSP}
		if p.Application == "" {
			p.Application = gateway.Moodle
		}
		return p
	}
	return []*gateway.Peer{
		forum(t),
		granted(&gateway.Peer{HostID: 8}, "http://sp.test:8090"),
		granted(&gateway.Peer{HostID: 9, AllowPaths: []string{"/mod/forum", "/course/"}, DenyPaths: []string{"/mod/forum/admin", "/course/Reset"}}, "https://u.test/moodle"),
		granted(&gateway.Peer{HostID: 10, DenyPaths: []string{"/admin/"}}, "https://u.test/other"),
		granted(&gateway.Peer{HostID: 11, Application: gateway.Mahara}, "https://m.test/portfolio"),
		granted(&gateway.Peer{HostID: 12, Off: true}, "https://off.test"),
		granted(&gateway.Peer{HostID: 13, Expires: now}, "https://over.test"),
		granted(&gateway.Peer{HostID: 14, Expires: now.Add(time.Nanosecond)}, "https://ends.test"),
		{Wwwroot: wwwroot(t, "https://shut.test"), HostID: 15, Application: gateway.Moodle},
	}
}

// judgeDecision fails the test if a query is decided in another way than the
// rules promise, as a browser, net/url and a web server see it.
func judgeDecision(t testing.TB, peers []*gateway.Peer, all *gateway.Allowlist, alone map[*gateway.Peer]*gateway.Allowlist, raw string) {
	t.Helper()
	q, rule := gateway.ParseQuery(raw)
	if rule != gateway.RuleOK {
		return
	}
	d := gateway.Decide(all, q, now)
	if again := gateway.Decide(all, q, now); again != d {
		t.Fatalf("%q is decided %+v, and then %+v", raw, d, again)
	}
	if d.Peer != nil && d.Rule != gateway.RulePeerConflict {
		if single := gateway.Decide(alone[d.Peer], q, now); single != d {
			t.Fatalf("%q is decided %+v, and without the other peers %+v", raw, d, single)
		}
	}
	if closed := gateway.Decide(all.Closed(), q, now); closed.Allow {
		t.Fatalf("%q is allowed where MNet is off", raw)
	}
	if !d.Allow {
		if d.Target != (gateway.Target{}) {
			t.Fatalf("%q is refused by %s, and has the target %q", raw, d.Rule, d.Target.URL())
		}
		return
	}
	p, page := d.Peer, d.Target
	if !slices.Contains(peers, p) || p.Standing(now) != gateway.RuleOK || !p.Publishes(gateway.ServiceSSOIDP) || !p.Subscribes(gateway.ServiceSSOSP) {
		t.Fatalf("%q leads to %s, which is not open", raw, p.Wwwroot)
	}
	judge(t, p, q.Wantsurl)
	judgePaths(t, p, page)
	home := wwwroot(t, "https://home.test/learn")
	land := gateway.LandLink(p, home, "token", page)
	if !all.Covers(page.URL(), now) || !all.Covers(land, now) {
		t.Fatalf("%q is allowed and not covered: %s, %s", raw, page.URL(), land)
	}
	seen, err := whatwg.Parse(land)
	if err != nil || seen.Href(false) != land || seen.Protocol()+"//"+seen.Host() != p.Wwwroot.Origin() || seen.Pathname() != p.Wwwroot.Path()+p.Application.LandPath() {
		t.Fatalf("%q lands at %q, which a browser reads as %v, %v", raw, land, seen, err)
	}
	// What Moodle makes of the page (source: auth/mnet/land.php), in a browser.
	query, err := url.ParseQuery(strings.TrimPrefix(seen.Search(), "?"))
	if err != nil || len(query["wantsurl"]) != 1 || len(query["token"]) != 1 || query.Get("idp") != home.String() {
		t.Fatalf("%q lands with the query %q", raw, seen.Search())
	}
	if glued, err := whatwg.Parse(p.Wwwroot.String() + query.Get("wantsurl")); err != nil || glued.Href(false) != page.URL() {
		t.Fatalf("%q ends at %v, not %q", raw, glued, page.URL())
	}
	emitted := url.Values{"hostwwwroot": {p.Wwwroot.String()}, "wantsurl": {page.String()}}.Encode()
	again, rule := gateway.ParseQuery(emitted)
	if e := gateway.Decide(all, again, now); rule != gateway.RuleOK || e.Target != page || e.Peer != p {
		t.Fatalf("%q is decided to %q, which is decided to %q by %s", raw, page.URL(), e.Target.URL(), e.Rule)
	}
}

// judgePaths fails the test if a web server that takes escapes off, merges
// slashes and resolves dots, in any number of rounds, would serve something
// else than the peer's prefixes allow.
func judgePaths(t testing.TB, p *gateway.Peer, page gateway.Target) {
	t.Helper()
	in := func(served string, prefixes []string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool {
			prefix = strings.TrimSuffix(prefix, "/")
			return served == prefix || strings.HasPrefix(served, prefix+"/")
		})
	}
	below, _, _ := strings.Cut(page.String(), "#")
	below, _, _ = strings.Cut(below, "?")
	for range 12 {
		served := path.Clean(below)
		if len(p.AllowPaths) > 0 && !in(served, p.AllowPaths) {
			t.Fatalf("%q is allowed, and a server may make %q of it", page.String(), served)
		}
		lower := make([]string, len(p.DenyPaths))
		for i, prefix := range p.DenyPaths {
			lower[i] = strings.ToLower(prefix)
		}
		if in(strings.ToLower(served), lower) {
			t.Fatalf("%q is allowed, and a server may make %q of it, which is denied", page.String(), served)
		}
		next, err := url.PathUnescape(below)
		if err != nil || next == below {
			return
		}
		below = next
	}
}

// lists returns the list of all neighbours, and one of each alone.
func lists(t testing.TB) ([]*gateway.Peer, *gateway.Allowlist, map[*gateway.Peer]*gateway.Allowlist) {
	peers := neighbours(t)
	alone := map[*gateway.Peer]*gateway.Allowlist{}
	for _, p := range peers {
		alone[p] = allowlist(t, p)
	}
	return peers, allowlist(t, peers...), alone
}

var decideSeeds = []string{
	"", "hostid=7&wantsurl=/x", "hostwwwroot=https://sp.test&wantsurl=%2Fmod%2Fforum%2Fdiscuss.php%3Fd%3D1%26amp%3Bparent%3D2%23p3",
	"hostwwwroot=SP.test:8090/&wantsurl=//evil.test", "hostwwwroot=u.test/moodle&wantsurl=/mod/forum/%252e%252e/x",
	"hostid=9&wantsurl=/mod/forum/x/%252f..%252f..%252fquiz", "hostid=9&wantsurl=/course//x/../RESET/", "hostid=10&wantsurl=/x//../ADMIN",
	"wr=https://m.test/portfolio&ins=4&wantsurl=view/view.php?id=3", "hostid=12", "hostid=13&wantsurl=/", "hostid=14&wantsurl=/",
	"hostid=15", "hostid=7&hostwwwroot=http://sp.test:8090", "hostid=11&wantsurl=.evil.test", "hostid=7&wantsurl=https://old.sp.test:8080/moodle/x",
	"hostwwwroot=https://sp.test@evil.test&wantsurl=/", "hostid=7&wantsurl=/%5cevil.test", "hostid=7&wantsurl=/?'\"%3C%3E%23`{}|^", "hub=1&hostid=7",
	"hostid=9&wantsurl=https://u.test/other/admin", "hostid=10&wantsurl=https://u.test/moodle/x", "hostid=7&wantsurl=%C3%A9%23%2520",
	"hostid=7&wantsurl=/a%252fb/../..%252fx", "hostid=9&wantsurl=/course/a%252fb/../..%252freset", "hostid=7&wantsurl=/x%252f%252fy/../%252fevil.test",
}

// FuzzDecide looks for the query of a jump that leads anywhere but to a page of
// an open peer, in the eyes of a browser, of net/url, of the Moodle that lands
// its learner or of a web server, or that is not decided for good. It tries a
// whole query, and a target at one of the peers.
func FuzzDecide(f *testing.F) {
	peers, all, alone := lists(f)
	for i, seed := range decideSeeds {
		q, _ := gateway.ParseQuery(seed)
		f.Add(seed, byte(i), q.Wantsurl)
	}
	f.Fuzz(func(t *testing.T, raw string, peer byte, wantsurl string) {
		judgeDecision(t, peers, all, alone, raw)
		root := peers[int(peer)%len(peers)].Wwwroot.String()
		judgeDecision(t, peers, all, alone, "hostwwwroot="+root+"&wantsurl="+url.QueryEscape(wantsurl))
	})
}

// pieces are what queries are put together from at random.
var pieces = []string{
	"/", "/", "//", `\`, ".", "..", "%2e", "%252e", "%2f", "%252F", "a%2fb", "..%2f", "/../", "%5c", "%", "%25", "a", "mod/forum", "course", "admin", "reset", "?", "#", "&amp;", "@", ":", "https:", "https://sp.test",
	"http://sp.test:8090", "https://u.test/moodle", "evil.test", "é", "\xff", "\t", "%00", "%c3%a9", " ", "=", ";", "javascript:", "old.sp.test:8080/moodle", "\u202e",
}

func TestQueriesOfAllSortsAreDecidedForGood(t *testing.T) {
	peers, all, alone := lists(t)
	random := rand.New(rand.NewPCG(1, 2)) // the same ones each time
	allowed := 0
	for range 100_000 {
		var wantsurl strings.Builder
		if random.IntN(4) > 0 {
			wantsurl.WriteString("/")
		}
		for range random.IntN(7) {
			wantsurl.WriteString(pieces[random.IntN(len(pieces))])
		}
		p := peers[random.IntN(len(peers))]
		raw := url.Values{"hostwwwroot": {p.Wwwroot.String()}, "wantsurl": {wantsurl.String()}}.Encode()
		judgeDecision(t, peers, all, alone, raw)
		if q, _ := gateway.ParseQuery(raw); gateway.Decide(all, q, now).Allow {
			allowed++
		}
	}
	if allowed < 5000 {
		t.Errorf("only %d of the queries are allowed", allowed)
	}
}

// TestAddingAPeerNeverChangesTheAnswerForAnother adds the neighbours one by
// one, in every turn of their order.
func TestAddingAPeerNeverChangesTheAnswerForAnother(t *testing.T) {
	peers := neighbours(t)
	for first := range peers {
		order := append(append([]*gateway.Peer{}, peers[first:]...), peers[:first]...)
		for _, raw := range decideSeeds {
			q, rule := gateway.ParseQuery(raw)
			if rule != gateway.RuleOK {
				continue
			}
			var before gateway.Decision
			for n := 1; n <= len(order); n++ {
				d := gateway.Decide(allowlist(t, order[:n]...), q, now)
				// A link that names two peers is a conflict once both are there.
				if before.Peer != nil && d != before && d.Rule != gateway.RulePeerConflict {
					t.Errorf("%q: %+v, and with %s added %+v", raw, before, order[n-1].Wwwroot, d)
				}
				before = d
			}
		}
	}
}

// seenAtPeer reports whether a browser reads an address as one below the
// wwwroot of an open peer.
func seenAtPeer(peers []*gateway.Peer, address string) bool {
	seen, err := whatwg.Parse(address)
	return err == nil && seen.Username()+seen.Password() == "" && slices.ContainsFunc(peers, func(p *gateway.Peer) bool {
		return p.Standing(now) == gateway.RuleOK && seen.Protocol()+"//"+seen.Host() == p.Wwwroot.Origin() &&
			(strings.HasPrefix(seen.Pathname(), p.Wwwroot.Path()+"/") || seen.Pathname() == p.Wwwroot.Path())
	})
}

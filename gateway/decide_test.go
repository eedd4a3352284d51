package gateway_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
)

// now is the time of all decisions that are not about time.
var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func allowlist(t testing.TB, peers ...*gateway.Peer) *gateway.Allowlist {
	t.Helper()
	l, err := gateway.NewAllowlist(peers...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestParseQuery(t *testing.T) {
	tests := []struct {
		name, raw string
		query     gateway.Query
		rule      gateway.Rule
	}{
		{"a mail's link", "hostwwwroot=https://sp.test&wantsurl=%2Fmod%2Fforum%2Fdiscuss.php%3Fd%3D1%23p2",
			gateway.Query{Hostwwwroot: "https://sp.test", Wantsurl: "/mod/forum/discuss.php?d=1#p2"}, "ok"},
		{"a host id", "hostid=3&wantsurl=/x", gateway.Query{HostID: "3", Wantsurl: "/x"}, "ok"},
		{"a semicolon is a letter, as in PHP", "wantsurl=/x;y&hostid=3", gateway.Query{HostID: "3", Wantsurl: "/x;y"}, "ok"},
		{"an unknown parameter is ignored, broken or not", "remoteurl=1&x=%zz&hostid=3&%zz=1", gateway.Query{HostID: "3"}, "ok"},
		{"a hub sends a learner home", "hostwwwroot=https://sp.test&wantsurl=/x" + gateway.FromHub, gateway.Query{Hostwwwroot: "https://sp.test", Wantsurl: "/x", Hub: "1"}, "ok"},
		{"a Mahara's link", "wr=https://sp.test&ins=4", gateway.Query{Hostwwwroot: "https://sp.test"}, "ok"},
		{"a Mahara's link with a page", "wr=https%3A%2F%2Fsp.test&ins=4&wantsurl=view%2Fview.php%3Fid%3D3",
			gateway.Query{Hostwwwroot: "https://sp.test", Wantsurl: "view/view.php?id=3"}, "ok"},
		{"wr and hostwwwroot that agree", "wr=https://sp.test&hostwwwroot=https://sp.test", gateway.Query{Hostwwwroot: "https://sp.test"}, "ok"},
		{"an empty wr beside hostwwwroot", "hostwwwroot=https://sp.test&wr=", gateway.Query{Hostwwwroot: "https://sp.test"}, "ok"},
		{"an empty hostwwwroot beside wr", "hostwwwroot=&wr=https://sp.test", gateway.Query{Hostwwwroot: "https://sp.test"}, "ok"},
		{"nothing", "", gateway.Query{}, "ok"},
		{"wr and hostwwwroot that differ", "wr=https://sp.test&hostwwwroot=https://evil.test", gateway.Query{}, "peer-conflict"},
		{"hostwwwroot and wr that differ", "hostwwwroot=https://sp.test&wr=https://evil.test", gateway.Query{}, "peer-conflict"},
		{"a repeated wr", "wr=https://sp.test&ins=4&wr=https://sp.test", gateway.Query{}, "repeated"},
		{"a broken wr", "wr=%zz", gateway.Query{}, "bad-query"},
		{"a repeated wantsurl", "hostid=3&wantsurl=/a&wantsurl=/a", gateway.Query{}, "repeated"},
		{"a signed link", "hostid=3&link=a.b-c_d.e", gateway.Query{HostID: "3", Link: "a.b-c_d.e"}, "ok"},
		{"two signatures", "hostid=3&link=a&link=a", gateway.Query{}, "repeated"},
		{"a name repeated in escapes", "hostid=3&hosti%64=4", gateway.Query{}, "repeated"},
		{"a broken escape", "hostid=3&wantsurl=%zz", gateway.Query{}, "bad-query"},
		{"64 KB", "wantsurl=" + strings.Repeat("a", 64<<10), gateway.Query{}, "query-too-long"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			query, rule := gateway.ParseQuery(test.raw)
			if rule != test.rule || rule == gateway.RuleOK && query != test.query {
				t.Errorf("ParseQuery(%.80q) = %+v by %s, want %+v by %s", test.raw, query, rule, test.query, test.rule)
			}
		})
	}
}

func TestDecide(t *testing.T) {
	ungranted := &gateway.Peer{Wwwroot: wwwroot(t, "https://shut.test"), HostID: 8}
	list := allowlist(t, forum(t), ungranted)
	tests := []struct {
		name  string
		query gateway.Query
		rule  gateway.Rule
		url   string
	}{
		{"the wwwroot", gateway.Query{Hostwwwroot: "https://sp.test", Wantsurl: "/x"}, "path", "https://sp.test/x"},
		{"with a trailing slash", gateway.Query{Hostwwwroot: "https://sp.test/"}, "empty", "https://sp.test/"},
		{"in upper case", gateway.Query{Hostwwwroot: "HTTPS://SP.test"}, "empty", "https://sp.test/"},
		{"with the default port", gateway.Query{Hostwwwroot: "https://sp.test:443"}, "empty", "https://sp.test/"},
		{"without a scheme", gateway.Query{Hostwwwroot: "sp.test"}, "empty", "https://sp.test/"},
		{"an alias leads to the wwwroot", gateway.Query{Hostwwwroot: "old.sp.test:8080/moodle/"}, "empty", "https://sp.test/"},
		{"a host id", gateway.Query{HostID: "7", Wantsurl: "/x"}, "path", "https://sp.test/x"},
		{"a host id that agrees", gateway.Query{HostID: "7", Hostwwwroot: "sp.test"}, "empty", "https://sp.test/"},
		{"a host id of nought means none", gateway.Query{HostID: "0", Hostwwwroot: "sp.test"}, "empty", "https://sp.test/"},
		{"a host id that disagrees", gateway.Query{HostID: "8", Hostwwwroot: "sp.test"}, "peer-conflict", ""},
		{"an unknown host id", gateway.Query{HostID: "9"}, "peer-unknown", ""},
		{"a host id that is no number", gateway.Query{HostID: "7x"}, "peer-malformed", ""},
		{"neither", gateway.Query{Wantsurl: "/x"}, "peer-missing", ""},
		{"an unknown host", gateway.Query{Hostwwwroot: "https://evil.test"}, "peer-unknown", ""},
		{"a known host with another scheme", gateway.Query{Hostwwwroot: "http://sp.test"}, "peer-unknown", ""},
		{"a known host with a user name", gateway.Query{Hostwwwroot: "https://sp.test@evil.test"}, "peer-unknown", ""},
		{"a known host with a path", gateway.Query{Hostwwwroot: "https://sp.test/x"}, "peer-unknown", ""},
		{"a peer that is not granted sign-on", gateway.Query{Hostwwwroot: "shut.test"}, "peer-grant", ""},
		{"a refused target", gateway.Query{HostID: "7", Wantsurl: "//evil.test"}, "scheme-relative", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := gateway.Decide(list, test.query, now)
			if d.Rule != test.rule || d.Target.URL() != test.url || d.Allow != (test.url != "") {
				t.Errorf("Decide(%+v) = %v %q by %s, want %q by %s", test.query, d.Allow, d.Target.URL(), d.Rule, test.url, test.rule)
			}
		})
	}
}

func TestAJumpLinkDecidesToItsPage(t *testing.T) {
	forum := &gateway.Peer{
		Wwwroot: wwwroot(t, "https://forum.test:8443/moodle"), Application: gateway.Moodle,
		Publish: []string{gateway.ServiceSSOIDP}, Subscribe: []string{gateway.ServiceSSOSP},
	}
	peers := allowlist(t, forum)
	for application, path := range map[gateway.Application]string{gateway.Moodle: "/auth/mnet/jump.php", gateway.Mahara: "/auth/xmlrpc/jump.php"} {
		home := wwwroot(t, "https://home.test")
		for _, page := range []string{"/", "/mod/forum/discuss.php?d=1&parent=2#p3", "/a%20b?x[]=1&y=%23+&z=100%25#%C3%A4"} {
			target, rule := gateway.ParseTarget(forum, page)
			if target.URL() == "" {
				t.Fatal(rule)
			}
			link := gateway.JumpLink(home, application, forum.Wwwroot, target)
			query, ok := strings.CutPrefix(link, "https://home.test"+path+"?")
			if !ok {
				t.Fatalf("link %s", link)
			}
			q, rule := gateway.ParseQuery(query)
			if d := gateway.Decide(peers, q, now); rule != gateway.RuleOK || d.Target.URL() != "https://forum.test:8443/moodle"+page {
				t.Errorf("%s decides to %q by %s", link, d.Target.URL(), d.Rule)
			}
		}
	}
}

func TestAClosedAllowlistSendsNobodyAnywhere(t *testing.T) {
	open := allowlist(t, forum(t))
	for host, rule := range map[string]gateway.Rule{"sp.test": gateway.RuleMNetOff, "evil.test": gateway.RulePeerUnknown, "": gateway.RulePeerMissing} {
		query := gateway.Query{Hostwwwroot: host, Wantsurl: "/x"}
		if d := gateway.Decide(open.Closed(), query, now); d.Allow || d.Rule != rule || d.Target.URL() != "" {
			t.Errorf("closed, %q: %+v", host, d)
		}
	}
	if d := gateway.Decide(open, gateway.Query{Hostwwwroot: "sp.test", Wantsurl: "/x"}, now); !d.Allow {
		t.Errorf("the open one: %+v", d)
	}
}

func TestAPeerNeverChangesTheAnswerForAnother(t *testing.T) {
	alone := allowlist(t, forum(t))
	crowd := allowlist(t, append(crowd(t, 100), forum(t))...)
	for _, wantsurl := range []string{"/x", "", "//evil.test", "https://sp.test/x", "https://peer7.test/x"} {
		query := gateway.Query{Hostwwwroot: "https://sp.test", Wantsurl: wantsurl}
		a, b := gateway.Decide(alone, query, now), gateway.Decide(crowd, query, now)
		if a.Allow != b.Allow || a.Rule != b.Rule || a.Target.URL() != b.Target.URL() {
			t.Errorf("wantsurl %q: %v %q alone, %v %q in a crowd", wantsurl, a.Rule, a.Target.URL(), b.Rule, b.Target.URL())
		}
	}
}

func TestNewAllowlistRefusesSharedNames(t *testing.T) {
	a := &gateway.Peer{Wwwroot: wwwroot(t, "https://a.test"), HostID: 1}
	tests := []struct {
		name string
		peer *gateway.Peer
	}{
		{"the same wwwroot", &gateway.Peer{Wwwroot: wwwroot(t, "https://A.test:443/")}},
		{"an alias that is a wwwroot", &gateway.Peer{Wwwroot: wwwroot(t, "https://b.test"), Aliases: []gateway.Wwwroot{a.Wwwroot}}},
		{"the same host id", &gateway.Peer{Wwwroot: wwwroot(t, "https://b.test"), HostID: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := gateway.NewAllowlist(a, test.peer); err == nil {
				t.Error("no error")
			}
		})
	}
}

func crowd(t testing.TB, n int) []*gateway.Peer {
	peers := make([]*gateway.Peer, n)
	for i := range peers {
		peers[i] = &gateway.Peer{
			Wwwroot:   wwwroot(t, fmt.Sprintf("https://peer%d.test", i)),
			Publish:   []string{gateway.ServiceSSOIDP},
			Subscribe: []string{gateway.ServiceSSOSP},
		}
	}
	return peers
}

func BenchmarkDecide10Peers(b *testing.B)    { benchmarkDecide(b, 10) }
func BenchmarkDecide10000Peers(b *testing.B) { benchmarkDecide(b, 10_000) }

func benchmarkDecide(b *testing.B, peers int) {
	list := allowlist(b, crowd(b, peers)...)
	links := []struct{ name, host, wantsurl string }{
		{"post", "https://peer5.test", "/mod/forum/discuss.php?d=123456&parent=7890123&utm=0123456789012345678901234567890123456#p7890123"},
		{"mail", "https://peer5.test", "/mod/forum/discuss.php?d=123456&amp;parent=7890123&amp;utm=0123456789012345678901234567#p7890123"},
		{"absolute", "peer5.test/", "https://peer5.test/mod/forum/discuss.php?d=123456&parent=7890123&utm=01234567890123456#p7890123"},
		{"escaped", "https://peer5.test", "/pluginfile.php/123456/mod_resource/content/1/A%20file%20with%20blanks%20and%20%C3%A4.pdf?forcedownload=1"},
		{"refused", "https://peer5.test", "/pluginfile.php/123456/mod_resource/content/1/../../../../../../a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s"},
	}
	for _, link := range links {
		b.Run(link.name, func(b *testing.B) {
			query := gateway.Query{Hostwwwroot: link.host, Wantsurl: link.wantsurl}
			b.ReportAllocs()
			for b.Loop() {
				if d := gateway.Decide(list, query, now); d.Peer == nil {
					b.Fatal(d.Rule)
				}
			}
		})
	}
}

package gateway_test

import (
	"testing"
	"time"

	"jumpgate/gateway"
)

func TestDeniedPaths(t *testing.T) {
	tests := []struct {
		name, wantsurl string
		allow          bool
	}{
		{"somewhere else", "/mod/forum/view.php", true},
		{"the prefix itself", "/admin", false},
		{"the prefix that ends with a slash, without it", "/login", false},
		{"below it", "/admin/index.php", false},
		{"a longer name", "/administration", true},
		{"in another case, as some file systems have it", "/Admin/index.php", false},
		{"into it by dots", "/mod/../admin/", false},
		{"into it by escaped dots", "/mod/%2e%2e/admin", false},
		{"behind an escaped slash", "/mod/..%2fadmin/", false},
		{"escaped letters", "/%61dmin", false},
		{"letters escaped twice", "/%2561dmin", false},
		{"for a server that merges slashes", "/mod/a//../../admin", false},
		{"below what is merged", "/mod//private/x", false},
		{"what a browser leaves for a server that merges slashes", "/mod//private//../x", false},
		{"with parameters, which some servers take off", "/admin;x=1/index.php", false},
		{"over dots with parameters", "/mod/..;/admin", false},
		{"with a dot at the end, which some file systems take off", "/admin./index.php", false},
		{"with a blank there", "/admin%20/index.php", false},
		{"before an escaped question mark, for who reads it anew", "/admin%3fx", false},
		{"before an escaped number sign", "/admin/%23/../../mod", false},
		{"in a letter that is another one's capital", "/mod/pr%C4%B1vate", false},
		{"a semicolon elsewhere", "/mod/forum/view.php;x", true},
		{"a dot elsewhere", "/mod/forum./x", true},
		{"in the query it is text", "/mod/x?next=/admin", true},
		{"denied inside what is allowed", "/mod/private/x", false},
		{"beside it", "/mod/privately", true},
		{"as an address", "https://sp.test/admin/", false},
	}
	peer := forum(t)
	peer.DenyPaths = []string{"/admin", "/login/", "/mod/private"}
	for _, allowed := range [][]string{nil, {"/mod", "/admin", "/administration"}} {
		peer.AllowPaths = allowed
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				target, rule := gateway.ParseTarget(peer, test.wantsurl)
				if allow := target.URL() != ""; allow != test.allow || !allow && rule != gateway.RulePathNotAllowed {
					t.Errorf("ParseTarget(%q) = %q by %s, want allowed %v", test.wantsurl, target.URL(), rule, test.allow)
				}
			})
		}
	}
}

func TestAServerThatMergesSlashesServesNothingElse(t *testing.T) {
	peer := forum(t)
	peer.AllowPaths = []string{"/mod/forum"}
	for _, wantsurl := range []string{"/mod/forum/x//../../quiz", "/mod/forum/x/%2f..%2f..%2fquiz", "/mod/forum/%2f%2f../../quiz"} {
		if target, rule := gateway.ParseTarget(peer, wantsurl); rule != gateway.RulePathNotAllowed {
			t.Errorf("%q: %q by %s", wantsurl, target.URL(), rule)
		}
	}
	if target, rule := gateway.ParseTarget(peer, "/mod/forum//x/../view.php"); target.URL() == "" {
		t.Errorf("what stays inside is refused by %s", rule)
	}
}

func TestAPeerThatIsOffOrOver(t *testing.T) {
	end := time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		name    string
		off     bool
		expires time.Time
		now     time.Time
		rule    gateway.Rule
	}{
		{"on, for ever", false, time.Time{}, now, gateway.RuleEmpty},
		{"on its last day", false, end, end.Add(-time.Nanosecond), gateway.RuleEmpty},
		{"the day after", false, end, end, gateway.RulePeerExpired},
		{"years after", false, end, end.AddDate(5, 0, 0), gateway.RulePeerExpired},
		{"in another zone", false, end, end.In(time.FixedZone("", -8*3600)), gateway.RulePeerExpired},
		{"off", true, time.Time{}, now, gateway.RulePeerOff},
		{"off and over", true, end, end, gateway.RulePeerOff},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			peer := forum(t)
			peer.Off, peer.Expires = test.off, test.expires
			list := allowlist(t, peer)
			open := test.rule == gateway.RuleEmpty
			d := gateway.Decide(list, gateway.Query{HostID: "7"}, test.now)
			if d.Rule != test.rule || d.Allow != open || d.Peer != peer {
				t.Errorf("decided %+v", d)
			}
			if got := list.Caller("https://sp.test", test.now); (got == peer) != open {
				t.Errorf("as a caller it is %v", got)
			}
			if got := list.Covers("https://sp.test/x", test.now); got != open {
				t.Errorf("covered: %v", got)
			}
		})
	}
	if day := (&gateway.Peer{Expires: end}).LastDay(); day != "2027-01-31" {
		t.Errorf("the last day is %s", day)
	}
	if day := (&gateway.Peer{}).LastDay(); day != "" {
		t.Errorf("without an end the last day is %s", day)
	}
	if allowlist(t).Caller("https://sp.test", now) != nil {
		t.Error("a stranger is a caller")
	}
}

func TestWhatAnAllowlistCovers(t *testing.T) {
	list := allowlist(t, neighbours(t)...)
	tests := []struct {
		address string
		want    bool
	}{
		{"https://sp.test", true},
		{"https://sp.test/", true},
		{"https://sp.test/mod/x?y=//evil.test#z", true},
		{"https://sp.test?y", true},
		{"http://sp.test:8090/auth/mnet/land.php?token=t&idp=https://home.test&wantsurl=%2F", true},
		{"https://u.test/moodle", true},
		{"https://u.test/moodle?x", true},
		{"https://u.test/moodle/x", true},
		{`https://sp.test/x?y=\`, true},

		{"", false},
		{"/x", false},
		{"//sp.test/x", false},
		{"https:sp.test/x", false},
		{"https:///sp.test/x", false},
		{"javascript:alert(1)", false},
		{"https://evil.test/", false},
		{"https://evil.test/https://sp.test/", false},
		{"https://sp.test.evil.test/", false},
		{"https://sp.testevil.test/", false},
		{"https://sp.test@evil.test/", false},
		{"https://x@sp.test/", false},
		{"https://sp.test:443/", false},
		{"https://sp.test:8090/", false},
		{"http://sp.test/", false},
		{"HTTPS://sp.test/", false},
		{"https://SP.test/", false},
		{"https://sp.test./", false},
		{`https://sp.test\@evil.test/`, false},
		{`https://sp.test/\evil.test/`, false},
		{"https://sp.test\t/", false},
		{"https://sp.test/\r\nSet-Cookie: a", false},
		{"https://sp.test/x?\n", false},
		{"https://sp.test/\x7f", false},
		{"https://u.test/", false},
		{"https://u.test/moodle2/x", false},
		{"https://u.test/moodle/../x", false},
		{"https://u.test/moodle/%2e%2E/x", false},
		{"https://u.test/moodle?/../..", true},
		{"http://old.sp.test:8080/moodle/x", false}, // an alias is never emitted
		{"https://off.test/", false},
		{"https://over.test/", false},
		{"https://ends.test/", true},
	}
	for _, test := range tests {
		if got := list.Covers(test.address, now); got != test.want {
			t.Errorf("Covers(%q) = %v", test.address, got)
		}
		if list.Closed().Covers(test.address, now) {
			t.Errorf("closed, it covers %q", test.address)
		}
	}
	if (*gateway.Allowlist)(nil).Covers("https://sp.test/", now) {
		t.Error("no list covers something")
	}
}

// FuzzCovers looks for an address that is covered and that a browser takes to
// no peer.
func FuzzCovers(f *testing.F) {
	for _, seed := range []string{"https://sp.test/x", "https://u.test/moodle/../x", `https://sp.test\@evil.test`, "https://u.test/moodle/.%2e;/x", "http://sp.test:8090?#/"} {
		f.Add(seed)
	}
	peers := neighbours(f)
	list := allowlist(f, peers...)
	f.Fuzz(func(t *testing.T, address string) {
		if list.Covers(address, now) && !seenAtPeer(peers, address) {
			t.Errorf("%q is covered", address)
		}
	})
}

// A browser takes a%2fb for one name, and a server that takes escapes off for
// two: what dots take back before it is not what they take back behind it.
func TestDotsThatTakeBackAnEscapedSlash(t *testing.T) {
	shut := forum(t)
	shut.AllowPaths = []string{"/mod"}
	shut.DenyPaths = []string{"/mod/private"}
	tests := []struct {
		peer     *gateway.Peer
		wantsurl string
		rule     gateway.Rule
	}{
		{forum(t), "/a%2fb/../..%2fx", gateway.RuleOutsidePath},
		{forum(t), "/a%2fb%2fc/../..%2f..%2fx", gateway.RuleOutsidePath},
		{forum(t), "/a%252fb/%2e%2e/..%252fx", gateway.RuleOutsidePath},
		{forum(t), "/a%252fb%2f..%2f..%252fx", gateway.RuleOutsidePath},
		{forum(t), "/a%252fb%2f%2f..%2f..%252fx", gateway.RuleOutsidePath},
		{forum(t), "/x%2f%2fy/../%2fevil.test", gateway.RuleSchemeRelative},
		{shut, "/mod/a%2fb/../..%2fadmin", gateway.RulePathNotAllowed},
		{shut, "/mod/x/a%2fb/../..%2fprivate", gateway.RulePathNotAllowed},
		{forum(t), "/a%2fb/../x%2f..%2fy", gateway.RulePath},
	}
	for _, test := range tests {
		if target, rule := gateway.ParseTarget(test.peer, test.wantsurl); rule != test.rule {
			t.Errorf("ParseTarget(%q) = %q by %s, want %s", test.wantsurl, target.URL(), rule, test.rule)
		}
	}
}

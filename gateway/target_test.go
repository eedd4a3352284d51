package gateway_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

func wwwroot(t testing.TB, s string) gateway.Wwwroot {
	t.Helper()
	w, err := gateway.ParseWwwroot(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// forum is the peer that most cases are about.
func forum(t testing.TB) *gateway.Peer {
	return &gateway.Peer{
		Wwwroot:     wwwroot(t, "https://sp.test"),
		Aliases:     []gateway.Wwwroot{wwwroot(t, "http://old.sp.test:8080/moodle")},
		HostID:      7,
		Application: gateway.Moodle,
		Publish:     []string{gateway.ServiceSSOIDP},
		Subscribe:   []string{gateway.ServiceSSOSP},
	}
}

func TestParseTarget(t *testing.T) {
	tests := []struct {
		name     string
		wantsurl string
		rule     gateway.Rule
		target   string // "" for a refusal
	}{
		{"an empty wantsurl is the front page", "", "empty", "/"},
		{"the front page", "/", "path", "/"},
		{"a forum post with its anchor", "/mod/forum/discuss.php?d=12#p34", "path", "/mod/forum/discuss.php?d=12#p34"},
		{"an escaped number sign in the query stays", "/mod/forum/discuss.php?d=1%23p2", "path", "/mod/forum/discuss.php?d=1%23p2"},
		{"the ampersand of an HTML mail is repaired", "/d.php?d=12&amp;parent=34#p34", "path", "/d.php?d=12&parent=34#p34"},
		{"an ampersand escaped twice is repaired", "/d.php?d=12&amp;amp;parent=34", "path", "/d.php?d=12&parent=34"},
		{"an ampersand in the path is left alone", "/a&amp;b", "path", "/a&amp;b"},
		{"an address inside the query is not judged", "/mod/lti/launch.php?url=https://tool.example//x%5c", "path", "/mod/lti/launch.php?url=https://tool.example//x%5c"},
		{"a broken escape inside the query is not judged", "/?q=%", "path", "/?q=%"},
		{"a file with blanks and umlauts in its name", "/pluginfile.php/12/a%20b%20%C3%A4.pdf", "path", "/pluginfile.php/12/a%20b%20%C3%A4.pdf"},
		{"a file with a percent sign in its name", "/pluginfile.php/12/100%25%20sure.pdf", "path", "/pluginfile.php/12/100%25%20sure.pdf"},
		{"raw umlauts are escaped", "/käse?käse#käse", "path", "/k%C3%A4se?k%C3%A4se#k%C3%A4se"},
		{"raw quotes and angle brackets are escaped", `/"<>?"<>'#"<>`, "path", "/%22%3C%3E?%22%3C%3E%27#%22%3C%3E"},
		{"brackets in the query stay", "/a?x[]=1&y[2]=3", "path", "/a?x[]=1&y[2]=3"},
		{"dot segments inside the site are resolved", "/mod/forum/../quiz/./view.php?id=3", "path", "/mod/quiz/view.php?id=3"},
		{"escaped dot segments inside the site are resolved", "/mod/forum/%2e%2E/quiz", "path", "/mod/quiz"},
		{"a name with three dots is a name", "/a/.../b", "path", "/a/.../b"},
		{"slashes repeated later stay", "/a//b", "path", "/a//b"},
		{"an address as the path is a path", "/https://evil.test", "path", "/https://evil.test"},

		{"an absolute URL of the peer becomes its path", "https://sp.test/mod/forum/discuss.php?d=1#p2", "peer-url", "/mod/forum/discuss.php?d=1#p2"},
		{"in upper case and with the default port", "HTTPS://SP.TEST:443/x", "peer-url", "/x"},
		{"without a path", "https://sp.test", "peer-url", "/"},
		{"with only a query", "https://sp.test?redirect=0", "peer-url", "/?redirect=0"},
		{"with only a fragment", "https://sp.test#x", "peer-url", "/#x"},
		{"an absolute URL of an alias becomes its path", "http://old.sp.test:8080/moodle/x?y", "peer-url", "/x?y"},
		{"an absolute URL beside the alias's path", "http://old.sp.test:8080/moodle2/x", "outside-path", ""},
		{"another scheme is another origin", "http://sp.test/", "foreign-origin", ""},
		{"another port is another origin", "https://sp.test:8443/", "foreign-origin", ""},
		{"a longer host is another origin", "https://sp.test.evil.test/", "foreign-origin", ""},
		{"a trailing dot is another origin", "https://sp.test./", "foreign-origin", ""},
		{"a host in other letters is another origin", "https://ｓp.test/", "foreign-origin", ""},
		{"an absolute URL with an escaped host", "https://sp%2etest/", "foreign-origin", ""},
		{"an absolute URL with two slashes after the host", "https://sp.test//evil.test", "scheme-relative", ""},
		{"a user name before a foreign host", "https://sp.test@evil.test/", "userinfo", ""},
		{"a user name before our host", "https://x@sp.test/", "userinfo", ""},

		{"two slashes", "//evil.test", "scheme-relative", ""},
		{"three slashes", "///evil.test", "scheme-relative", ""},
		{"an escaped second slash", "/%2fevil.test", "scheme-relative", ""},
		{"a second slash escaped twice", "/%252fevil.test", "scheme-relative", ""},
		{"two slashes after a dot segment", "/.//evil.test", "scheme-relative", ""},
		{"two slashes after an escaped dot segment", "/%2e//evil.test", "scheme-relative", ""},
		{"two slashes after a climb", "/a/..//evil.test", "scheme-relative", ""},
		{"a backslash", `/\evil.test`, "backslash", ""},
		{"a backslash in the query", `/?x=\`, "backslash", ""},
		{"an escaped backslash", "/%5cevil.test", "backslash", ""},
		{"a backslash escaped three times", "/%25255cevil.test", "backslash", ""},
		{"an escaped backslash in the fragment", "/a#%5c", "backslash", ""},
		{"a tab", "/\t/evil.test", "control-byte", ""},
		{"a blank", "/a b", "control-byte", ""},
		{"a delete", "/a\x7f", "control-byte", ""},
		{"an escaped tab", "/%09/evil.test", "control-byte", ""},
		{"an escaped line feed in the fragment", "/a#%0a", "control-byte", ""},
		{"a byte that is no UTF-8", "/caf\xe9", "invalid-utf8", ""},
		{"an escape that is no UTF-8", "/caf%e9", "invalid-utf8", ""},
		{"an overlong slash", "/%c0%afevil.test", "invalid-utf8", ""},
		{"a broken escape in the path", "/%zz", "bad-escape", ""},
		{"a broken escape at the end of the fragment", "/a#%2", "bad-escape", ""},
		{"escapes nine layers deep", "/%" + strings.Repeat("25", 9) + "41", "too-many-layers", ""},
		{"no slash", "evil.test", "no-leading-slash", ""},
		{"no slash but a dot", ".evil.test", "no-leading-slash", ""},
		{"no slash but an at sign", "@evil.test", "no-leading-slash", ""},
		{"no slash but a port", ":443@evil.test/", "no-leading-slash", ""},
		{"only a query", "?next=//evil.test", "no-leading-slash", ""},
		{"a script", "javascript:alert(1)", "opaque", ""},
		{"a scheme without slashes", "https:evil.test", "opaque", ""},
		{"another scheme", "ftp://sp.test/", "opaque", ""},
		{"climbing out", "/../x", "outside-path", ""},
		{"climbing out, escaped", "/a/%2e%2e/%2e%2e/x", "outside-path", ""},
		{"climbing out behind escaped slashes", "/a/..%2f..%2fx", "outside-path", ""},
		{"climbing out for a server that merges slashes", "/a//../../x", "outside-path", ""},
		{"2,048 bytes", "/" + strings.Repeat("a", 2047), "path", "/" + strings.Repeat("a", 2047)},
		{"2,049 bytes", "/" + strings.Repeat("a", 2048), "too-long", ""},
		{"2,048 bytes that escaping makes longer", "/" + strings.Repeat("ä", 1023), "too-long", ""},
	}
	peer := forum(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			target, rule := gateway.ParseTarget(peer, test.wantsurl)
			if rule != test.rule {
				t.Errorf("ParseTarget(%q): rule %s, want %s", test.wantsurl, rule, test.rule)
			}
			want := ""
			if test.target != "" {
				want = "https://sp.test" + test.target
			}
			if diff := cmp.Diff(want, target.URL()); diff != "" {
				t.Errorf("ParseTarget(%q) (-want +got):\n%s", test.wantsurl, diff)
			}
		})
	}
}

func TestParseTargetBelowAPath(t *testing.T) {
	tests := []struct {
		name, wantsurl string
		rule           gateway.Rule
		url            string
	}{
		{"a path is below the wwwroot's path", "/x", "path", "https://u.test/moodle/x"},
		{"an absolute URL loses it", "https://u.test/moodle/x?y", "peer-url", "https://u.test/moodle/x?y"},
		{"the wwwroot itself", "https://u.test/moodle", "peer-url", "https://u.test/moodle/"},
		{"an absolute URL beside it", "https://u.test/moodle2", "outside-path", ""},
		{"an absolute URL above it", "https://u.test/", "outside-path", ""},
		{"climbing to its neighbour", "/../admin", "outside-path", ""},
		{"climbing and coming back is still outside", "/../moodle/x", "outside-path", ""},
	}
	peer := &gateway.Peer{Wwwroot: wwwroot(t, "https://u.test/moodle")}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			target, rule := gateway.ParseTarget(peer, test.wantsurl)
			if rule != test.rule || target.URL() != test.url {
				t.Errorf("ParseTarget(%q) = %q by %s, want %q by %s", test.wantsurl, target.URL(), rule, test.url, test.rule)
			}
		})
	}
}

func TestParseTargetOfAMahara(t *testing.T) {
	tests := []struct {
		name, wantsurl string
		rule           gateway.Rule
		url            string
	}{
		{"a path without its slash, as in Mahara's mails", "view/view.php?id=3#comment", "path", "https://m.test/portfolio/view/view.php?id=3#comment"},
		{"a path with its slash", "/view/view.php?id=3", "path", "https://m.test/portfolio/view/view.php?id=3"},
		{"only a query", "?id=3", "path", "https://m.test/portfolio/?id=3"},
		{"what would make a Moodle's host longer", ".evil.test", "path", "https://m.test/portfolio/.evil.test"},
		{"what would make it a user name", "@evil.test/", "path", "https://m.test/portfolio/@evil.test/"},
		{"two slashes", "//evil.test", "scheme-relative", ""},
		{"two slashes behind an escape", "%2fevil.test", "scheme-relative", ""},
		{"climbing out", "../x", "outside-path", ""},
		{"another site", "https://evil.test/", "foreign-origin", ""},
		{"a script", "javascript:alert(1)", "opaque", ""},
		{"a backslash", `\evil.test`, "backslash", ""},
	}
	peer := &gateway.Peer{Wwwroot: wwwroot(t, "https://m.test/portfolio"), Application: gateway.Mahara}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			target, rule := gateway.ParseTarget(peer, test.wantsurl)
			if rule != test.rule || target.URL() != test.url {
				t.Errorf("ParseTarget(%q) = %q by %s, want %q by %s", test.wantsurl, target.URL(), rule, test.url, test.rule)
			}
		})
	}
}

func TestAllowedPaths(t *testing.T) {
	tests := []struct {
		name, wantsurl string
		allow          bool
	}{
		{"the prefix itself", "/mod/forum", true},
		{"below the prefix", "/mod/forum/discuss.php?d=1", true},
		{"a longer name", "/mod/forum2/x", false},
		{"somewhere else", "/admin/index.php", false},
		{"out of the prefix by dots", "/mod/forum/../quiz/view.php", false},
		{"out of the prefix by escaped dots", "/mod/forum/%2e%2e/quiz", false},
		{"out of the prefix behind an escaped slash", "/mod/forum/..%2fquiz", false},
		{"into the prefix by dots", "/course/../mod/forum/x", true},
		{"a second prefix that ends with a slash", "/course/view.php", true},
	}
	peer := forum(t)
	peer.AllowPaths = []string{"/mod/forum", "/course/"}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			target, rule := gateway.ParseTarget(peer, test.wantsurl)
			if allow := target.URL() != ""; allow != test.allow || !allow && rule != gateway.RulePathNotAllowed {
				t.Errorf("ParseTarget(%q) = %q by %s, want allowed %v", test.wantsurl, target.URL(), rule, test.allow)
			}
		})
	}
}

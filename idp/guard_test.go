package idp_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	whatwg "github.com/nlnwa/whatwg-url/url"

	"jumpgate/gateway"
	"jumpgate/idp"
)

func newGuard(t testing.TB) *idp.Guard {
	t.Helper()
	peer := func(root string, id int, a gateway.Application) *gateway.Peer {
		return &gateway.Peer{
			Wwwroot: wwwroot(t, root), HostID: id, Application: a, AllowPaths: []string{"/mod", "/x", "/käse"},
			Publish: []string{gateway.ServiceSSOIDP}, Subscribe: []string{gateway.ServiceSSOSP},
		}
	}
	sp := peer("https://sp.test", 3, gateway.Moodle)
	sp.Aliases = []gateway.Wwwroot{wwwroot(t, "https://old.test/moodle")}
	peers, err := gateway.NewAllowlist(sp, peer("https://mahara.test", 0, gateway.Mahara), peer("https://home.test/moodle/forum", 9, gateway.Moodle))
	if err != nil {
		t.Fatal(err)
	}
	return idp.NewGuard(wwwroot(t, "https://home.test/moodle"), peers)
}

func jumpRequest(method, query string) *http.Request {
	return httptest.NewRequest(method, "https://home.test/moodle/auth/mnet/jump.php?"+query, nil)
}

func TestMoodleIsAskedForWhatWasDecidedAlone(t *testing.T) {
	tests := []struct{ name, method, query, rule, target string }{
		{"by its wwwroot", "GET", "hostwwwroot=https://mahara.test&wantsurl=/x%3Fd=1%23p2", "path",
			"hostwwwroot=https%3A%2F%2Fmahara.test&wantsurl=%2Fx%3Fd%3D1%23p2"},
		{"by its id, if we know that", "GET", "hostwwwroot=https://sp.test&wantsurl=/x", "path", "hostid=3&wantsurl=%2Fx"},
		{"by another name", "GET", "hostwwwroot=HTTPS://Old.TEST:443/moodle/&wantsurl=/x", "path", "hostid=3&wantsurl=%2Fx"},
		{"in another spelling", "GET", "hostwwwroot=MAHARA.test/&wantsurl=https://mahara.test/mod/../x", "peer-url", "hostwwwroot=https%3A%2F%2Fmahara.test&wantsurl=%2Fx"},
		{"other parameters stay behind", "GET", "hostid=3&wantsurl=/x&remoteurl=1&sesskey=a&wantsurl[]=/y&hostid%00=4", "path", "hostid=3&wantsurl=%2Fx"},
		{"bytes are escaped, twice on the way", "GET", "hostid=3&wantsurl=/k%C3%A4se%3Fa=b%26c=%22", "path", "hostid=3&wantsurl=%2Fk%25C3%25A4se%3Fa%3Db%26c%3D%2522"},
		{"a wantsurl that Moodle would append to the host", "GET", "hostid=3&wantsurl=evil.test/", "no-leading-slash", ""},
		{"a path that is not allowed", "GET", "hostid=3&wantsurl=/admin", "path-not-allowed", ""},
		{"an unknown peer", "GET", "hostwwwroot=https://evil.test", "peer-unknown", ""},
		{"a HEAD is only decided", "HEAD", "hostid=3&wantsurl=/x", "path", ""},
		{"a HEAD of a refused target too", "HEAD", "hostid=3&wantsurl=//x", "scheme-relative", ""},
	}
	for _, test := range tests {
		a, target := newGuard(t).Jump(jumpRequest(test.method, test.query))
		if test.target != "" {
			test.target = "/moodle/auth/mnet/jump.php?" + test.target
		}
		if string(a.Rule) != test.rule || target != test.target {
			t.Errorf("%s: rule %s, target %q, want %s, %q", test.name, a.Rule, target, test.rule, test.target)
		}
	}
	picture := jumpRequest("GET", "hostid=3&wantsurl=/x")
	picture.Header.Set("Sec-Fetch-Dest", "image")
	if a, target := newGuard(t).Jump(picture); a.Rule != gateway.RuleNotNavigation || !a.Refused || target != "" {
		t.Errorf("a picture: %+v, %q", a, target)
	}
}

const (
	goodToken = "0123456789abcdef0123456789abcdef01234567"
	goodQuery = "?token=" + goodToken + "&idp=https://home.test/moodle&wantsurl=%2Fmod%2Fx.php%3Fa%3D%7Eb%26c%3D1%23p2"
	goodLand  = "https://sp.test/auth/mnet/land.php" + goodQuery
	landed    = "https://sp.test/auth/mnet/land.php?token=" + goodToken + "&idp=https://home.test/moodle&wantsurl=%2Fmod%2Fx.php%3Fa%3D~b%26c%3D1%23p2"
)

// check lets a Moodle answer the jump to https://sp.test/mod/x.php?a=~b&c=1#p2.
func check(t testing.TB, status int, header http.Header) (idp.Answer, http.Header) {
	t.Helper()
	g := newGuard(t)
	a, target := g.Jump(jumpRequest("GET", "hostid=3&wantsurl="+url.QueryEscape("/mod/x.php?a=~b&c=1#p2")))
	if target == "" {
		t.Fatalf("%+v", a)
	}
	return g.Check(a, &http.Response{StatusCode: status, Header: header}), header
}

func TestWhatMoodleMayAnswer(t *testing.T) {
	location := func(all ...string) http.Header { return http.Header{"Location": all} }
	const login = "https://home.test/moodle/login/index.php"
	tests := []struct {
		name   string
		status int
		header http.Header
		want   string // the Location that leaves; empty for none
	}{
		{"the landing", 303, location(goodLand), landed},
		{"the landing, with another status", 302, location(goodLand), landed},
		{"the landing, escaped otherwise", 303, location(strings.NewReplacer("idp=https://home.test/moodle", "idp=https%3a%2f%2fhome.test%2Fmoodle", "%7E", "~").Replace(goodLand)), landed},
		{"its login page", 303, location(login), login},
		{"its login page, on its own host", 303, location("/moodle/login/index.php"), login},
		{"its second factor", 303, location("https://home.test/moodle/admin/tool/mfa/auth.php?a=1"), "https://home.test/moodle/admin/tool/mfa/auth.php?a=1"},
		{"a page that begins like a peer below", 303, location("/moodle/forums/x?y=/forum/"), "https://home.test/moodle/forums/x?y=/forum/"},
		{"its front page", 303, location("HTTPS://HOME.TEST:443/moodle"), "https://home.test/moodle/"},
		{"an error page", 404, http.Header{"Content-Security-Policy": {"img-src *"}}, ""},
		{"a page that shows debug messages", 200, http.Header{}, ""},
		{"Moodle in maintenance", 503, http.Header{}, ""},
	}
	for _, test := range tests {
		a, header := check(t, test.status, test.header)
		got, policy := a.Location, strings.Join(header["Content-Security-Policy"], "; ")
		if a.Passed {
			got = header.Get("Location")
		}
		if a.Refused || got != test.want || a.Landing != strings.HasPrefix(test.want, "https://sp.test") || a.Landing == a.Passed {
			t.Errorf("%s: %q, %+v", test.name, got, a)
		}
		if page := test.want == ""; strings.Contains(policy, "sandbox ") != page || strings.Contains(policy, "allow-scripts") {
			t.Errorf("%s: policy %q", test.name, policy)
		}
	}
}

// hostile are answers that must not leave, for tests of this package and as
// seeds of the fuzzer.
var hostile = []struct{ name, location string }{
	{"another site", "https://evil.test/" + goodQuery},
	{"another site that begins like the peer", "https://sp.test.evil.test/auth/mnet/land.php" + goodQuery},
	{"another peer", "https://mahara.test/auth/xmlrpc/land.php" + goodQuery},
	{"an alias of the peer", "https://old.test/moodle/auth/mnet/land.php" + goodQuery},
	{"the peer over plain HTTP", "http://sp.test/auth/mnet/land.php" + goodQuery},
	{"another port of the peer", "https://sp.test:444/auth/mnet/land.php" + goodQuery},
	{"the peer's host in upper case", "https://SP.test/auth/mnet/land.php" + goodQuery},
	{"another page of the peer", "https://sp.test/login/index.php" + goodQuery},
	{"a path below the landing", "https://sp.test/auth/mnet/land.php/x" + goodQuery},
	{"a peer on our own host", "https://home.test/moodle/forum/auth/mnet/land.php" + goodQuery},
	{"that peer itself", "https://home.test/moodle/forum"},
	{"that peer itself, with a query", "https://home.test/moodle/forum?x=1"},
	{"that peer behind a parameter", "https://home.test/moodle/forum;x/auth/mnet/land.php" + goodQuery},
	{"that peer behind an escape", "https://home.test/moodle/%66orum/auth/mnet/land.php" + goodQuery},
	{"that peer behind two escapes", "https://home.test/moodle/%2566orum/auth/mnet/land.php" + goodQuery},
	{"that peer behind an escaped slash", "https://home.test/moodle/x/%2e%2e%2fforum/auth/mnet/land.php" + goodQuery},
	{"that peer in capitals", "https://home.test/moodle/Forum/auth/mnet/land.php" + goodQuery},
	{"that peer behind a dot", "https://home.test/moodle/./forum/auth/mnet/land.php" + goodQuery},
	{"that peer, without our host", "/moodle/FORUM/"},
	{"a user name", "https://sp.test@evil.test/auth/mnet/land.php" + goodQuery},
	{"a user name before the peer", "https://x@sp.test/auth/mnet/land.php" + goodQuery},
	{"a user name before our site", "https://x@home.test/moodle/login/index.php"},
	{"without a scheme", "//evil.test/auth/mnet/land.php" + goodQuery},
	{"without a scheme, to the peer", "//sp.test/auth/mnet/land.php" + goodQuery},
	{"with a backslash", `/\evil.test/moodle/`},
	{"with two backslashes", `\\evil.test/moodle/`},
	{"with a backslash behind our site", `https://home.test\.evil.test/moodle/`},
	{"a script", "javascript:location='https://evil.test/'"},
	{"data", "data:text/html,x"},
	{"a relative path", "land.php" + goodQuery},
	{"beside our wwwroot", "https://home.test/other/"},
	{"beside our wwwroot, by dots", "https://home.test/moodle/../other/"},
	{"beside our wwwroot, by hidden dots", "https://home.test/moodle/%252e%252e/other/"},
	{"a name that begins like our wwwroot", "https://home.test/moodleevil/"},
	{"two slashes below our site", "https://home.test/moodle//evil.test"},
	{"our site over plain HTTP", "http://home.test/moodle/login/index.php"},
	{"nothing", ""},
	{"one more parameter", goodLand + "&remoteurl=1"},
	{"one more parameter in the middle", strings.Replace(goodLand, "&idp", "&x=1&idp", 1)},
	{"a fragment", goodLand + "#x"},
	{"parameters in another order", strings.Replace(strings.Replace(goodLand, "token="+goodToken+"&", "", 1), "&wantsurl", "&token="+goodToken+"&wantsurl", 1)},
	{"two tokens", strings.Replace(goodLand, "token=", "token=x&token=", 1)},
	{"no token", strings.Replace(goodLand, "token="+goodToken+"&", "", 1)},
	{"an empty token", strings.Replace(goodLand, goodToken, "", 1)},
	{"a short token", strings.Replace(goodLand, "0123", "012", 1)},
	{"a long token", strings.Replace(goodLand, "0123", "01234", 1)},
	{"a token with odd characters", strings.Replace(goodLand, "0123", "01-3", 1)},
	{"a token with an escaped ampersand", strings.Replace(goodLand, "0123", "%263", 1)},
	{"a token with a line break", strings.Replace(goodLand, goodToken, goodToken[1:]+"\n", 1)},
	{"an escaped line break behind the token", strings.Replace(goodLand, goodToken, goodToken+"%0d%0aSet-Cookie:x=y", 1)},
	{"an idp that is another site", strings.Replace(goodLand, "idp=https://home.test/moodle", "idp=https://evil.test", 1)},
	{"an idp that begins like ours", strings.Replace(goodLand, "home.test/moodle", "home.test/moodle.evil.test", 1)},
	{"no idp", strings.Replace(goodLand, "&idp=https://home.test/moodle", "", 1)},
	{"another wantsurl", strings.Replace(goodLand, "x.php", "y.php", 1)},
	{"a wantsurl that leaves the peer", goodLand[:strings.Index(goodLand, "wantsurl=")] + "wantsurl=.evil.test"},
	{"a wantsurl that cannot be read", goodLand + "%zz"},
	{"a longer wantsurl", goodLand + "%0d%0a"},
	{"no wantsurl", goodLand[:strings.Index(goodLand, "&wantsurl=")]},
}

func TestNothingElseLeaves(t *testing.T) {
	for _, test := range hostile {
		stopped(t, test.name, 303, http.Header{"Location": {test.location}}, "303 Location: ")
	}
	stopped(t, "two Locations", 303, http.Header{"Location": {goodLand, goodLand}}, "[token]&idp=")
	stopped(t, "our own and a foreign Location", 303, http.Header{"Location": {"/moodle/login/index.php", "https://evil.test"}}, "https://evil.test")
	stopped(t, "no Location", 303, http.Header{}, "303")
	stopped(t, "a redirect that is none", 200, http.Header{"Location": {goodLand}}, "200")
	stopped(t, "a page with a Refresh", 200, http.Header{"Refresh": {"0; url=https://evil.test/"}}, "evil.test")
	stopped(t, "an error page with a Refresh", 404, http.Header{"Refresh": {"1"}}, "Refresh: 1")
	stopped(t, "the landing with a Refresh", 303, http.Header{"Location": {goodLand}, "Refresh": {"0;https://evil.test"}}, "evil.test")
	stopped(t, "another protocol", 101, http.Header{}, "101")
}

// An address that is no landing may hold the secrets of another login.
func TestWhatIsStoppedIsRecordedWithoutItsSecrets(t *testing.T) {
	for _, header := range []http.Header{
		{"Location": {"https://login.test/authorize?state=%2Flogin.php&sesskey=secret"}},
		{"Location": {"//login.test/authorize#access=secret"}},
		{"Location": {"https://ada:secret@login.test/authorize"}},
		{"Refresh": {"0;url=https://login.test/authorize?code=secret"}},
	} {
		a, _ := check(t, 303, header)
		if !a.Refused || strings.Contains(a.Moodle, "secret") || !strings.Contains(a.Moodle, "login.test/authorize") {
			t.Errorf("%v: on record is %q", header, a.Moodle)
		}
	}
}

// stopped checks that an answer becomes a refusal, with what was sent on record.
func stopped(t *testing.T, name string, status int, header http.Header, record string) {
	t.Helper()
	a, _ := check(t, status, header)
	if !a.Refused || a.Rule != gateway.RuleUpstreamLocation || a.Passed || a.Landing || a.Location != "" || a.Target != (gateway.Target{}) {
		t.Errorf("%s: %+v", name, a)
	}
	if a.Peer == nil || a.Wantsurl == "" || !strings.Contains(a.Moodle, record) || strings.Contains(a.Moodle, goodToken[1:]) {
		t.Errorf("%s: on record is %q", name, a.Moodle)
	}
}

// FuzzGuardedLocation asks a URL parser of the browsers' standard whether any
// Location takes a learner elsewhere than to the landing or the site itself.
func FuzzGuardedLocation(f *testing.F) {
	for _, test := range hostile {
		f.Add(test.location)
	}
	f.Add(goodLand)
	f.Add("/moodle/login/index.php?x=1#y")
	f.Fuzz(func(t *testing.T, location string) {
		a, header := check(t, 303, http.Header{"Location": {location}})
		switch {
		case a.Landing:
			before, after, _ := strings.Cut(landed, goodToken)
			if !strings.HasPrefix(a.Location, before) || !strings.HasSuffix(a.Location, after) || len(a.Location) != len(landed) {
				t.Errorf("%q lands at %q", location, a.Location)
			}
		case a.Passed:
			seen, err := whatwg.Parse(header.Get("Location"))
			if err != nil || seen.Protocol() != "https:" || seen.Host() != "home.test" || seen.Username() != "" ||
				!strings.HasPrefix(seen.Pathname(), "/moodle/") || strings.HasPrefix(strings.ToLower(seen.Pathname())+"/", "/moodle/forum/") {
				t.Errorf("%q leads to %q, %v", location, header.Get("Location"), err)
			}
		case !a.Refused:
			t.Errorf("%q: %+v", location, a)
		}
	})
}

func TestAGuardKnowsTheSiteByItsOldNames(t *testing.T) {
	peers, err := gateway.NewAllowlist(moodlePeer(t, "https://sp.test", 3, nil))
	if err != nil {
		t.Fatal(err)
	}
	g := idp.NewGuard(wwwroot(t, "https://home.test"), peers, wwwroot(t, "http://old.test"))
	// Moodle has moved, and its MNet does not know yet.
	for site, lands := range map[string]bool{"https://home.test": true, "http://old.test": true, "https://old.test": false, "https://home.test/": false} {
		a, _ := g.Jump(jumpRequest("GET", "hostid=3&wantsurl=/x"))
		a = g.Check(a, &http.Response{StatusCode: 303, Header: http.Header{
			"Location": {"https://sp.test/auth/mnet/land.php?token=" + goodToken + "&idp=" + site + "&wantsurl=%2Fx"},
		}})
		if a.Landing != lands || lands && !strings.Contains(a.Location, "&idp=https://home.test&") {
			t.Errorf("idp %s: %+v", site, a)
		}
	}
	if a, target := g.Jump(jumpRequest("GET", "hostwwwroot=old.test&wantsurl=/x")); target != "" || a.Outcome != idp.OutcomeOwn || a.Location != "https://home.test/x" {
		t.Errorf("a link to the site itself: %+v, %q", a, target)
	}
	if a := g.Forward(jumpRequest("GET", "hostid=3&wantsurl=/x")); a.Location != "https://home.test/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fsp.test&wantsurl=%2Fx" {
		t.Errorf("forwarded: %+v", a)
	}
}

package gateway_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

func TestWhatALandingSays(t *testing.T) {
	for _, test := range []struct {
		name, query string
		want        gateway.Landing
		rule        gateway.Rule
	}{
		{"as a Moodle makes it", "token=abc&idp=https://home.test&wantsurl=%2Fmod%2Fforum%2Fdiscuss.php%3Fd%3D1%23p3",
			gateway.Landing{Token: "abc", IDP: "https://home.test", Wantsurl: "/mod/forum/discuss.php?d=1#p3"}, gateway.RuleOK},
		{"back to the home", "token=abc&idp=https://home.test&wantsurl=/x&remoteurl=1",
			gateway.Landing{Token: "abc", IDP: "https://home.test", Wantsurl: "/x", Remote: true}, gateway.RuleOK},
		{"not back", "idp=x&remoteurl=0", gateway.Landing{IDP: "x"}, gateway.RuleOK},
		{"not back, in a word", "idp=x&remoteurl=False", gateway.Landing{IDP: "x"}, gateway.RuleOK},
		{"with parameters that it does not have", "idp=x&lang=de&idp%00=evil&%20idp=evil&idp[]=evil", gateway.Landing{IDP: "x"}, gateway.RuleOK},
		{"nothing", "", gateway.Landing{}, gateway.RuleOK},
		{"two homes", "idp=https://home.test&idp=https://evil.test", gateway.Landing{}, gateway.RuleRepeated},
		{"two homes, one escaped", "idp=https://home.test&%69dp=https://evil.test", gateway.Landing{}, gateway.RuleRepeated},
		{"two tokens", "token=a&token=b", gateway.Landing{}, gateway.RuleRepeated},
		{"a bad escape", "token=%zz", gateway.Landing{}, gateway.RuleBadQuery},
		{"too long", "token=" + strings.Repeat("x", 16<<10), gateway.Landing{}, gateway.RuleQueryTooLong},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, rule := gateway.ParseLanding(test.query)
			if rule != test.rule || cmp.Diff(test.want, got) != "" {
				t.Errorf("%s %s", rule, cmp.Diff(test.want, got))
			}
		})
	}
}

func TestWhereALandingMayEnd(t *testing.T) {
	now := time.Unix(1795336536, 0)
	homes := allowlist(t,
		&gateway.Peer{Wwwroot: wwwroot(t, "https://home.test/moodle"), Aliases: []gateway.Wwwroot{wwwroot(t, "https://old.test")}, DenyPaths: []string{"/admin"}},
		&gateway.Peer{Wwwroot: wwwroot(t, "https://off.test"), Off: true}, &gateway.Peer{Wwwroot: wwwroot(t, "https://over.test"), Expires: now})
	own := gateway.OwnSite(wwwroot(t, "https://forum.test/learn"), wwwroot(t, "https://forum-old.test"))
	for _, test := range []struct {
		name string
		in   gateway.Landing
		rule gateway.Rule
		want string
	}{
		{"a page", gateway.Landing{IDP: "https://home.test/moodle", Wantsurl: "/mod/x?d=1#p2"}, gateway.RulePath, "https://forum.test/learn/mod/x?d=1#p2"},
		{"no page", gateway.Landing{IDP: "https://home.test/moodle"}, gateway.RuleEmpty, "https://forum.test/learn/"},
		{"a page by its address", gateway.Landing{IDP: "https://home.test/moodle", Wantsurl: "https://forum.test/learn/x"}, gateway.RulePeerURL, "https://forum.test/learn/x"},
		{"by an old one", gateway.Landing{IDP: "https://home.test/moodle", Wantsurl: "https://forum-old.test/x"}, gateway.RulePeerURL, "https://forum.test/learn/x"},
		{"from a home under its old name", gateway.Landing{IDP: "https://old.test", Wantsurl: "/x"}, gateway.RulePath, "https://forum.test/learn/x"},
		{"a page of the home", gateway.Landing{IDP: "https://home.test/moodle", Wantsurl: "/x", Remote: true}, gateway.RulePath, "https://home.test/moodle/x"},
		{"a closed one there", gateway.Landing{IDP: "https://home.test/moodle", Wantsurl: "/admin/x", Remote: true}, gateway.RulePathNotAllowed, ""},
		{"a page of the home, as ours", gateway.Landing{IDP: "https://home.test/moodle", Wantsurl: "https://home.test/moodle/x"}, gateway.RuleForeignOrigin, ""},
		{"a host that grows", gateway.Landing{IDP: "https://home.test/moodle", Wantsurl: ".evil.test/"}, gateway.RuleNoSlash, ""},
		{"a user name", gateway.Landing{IDP: "https://home.test/moodle", Wantsurl: "@evil.test/"}, gateway.RuleNoSlash, ""},
		{"two slashes", gateway.Landing{IDP: "https://home.test/moodle", Wantsurl: "//evil.test"}, gateway.RuleSchemeRelative, ""},
		{"out of the path", gateway.Landing{IDP: "https://home.test/moodle", Wantsurl: "/../admin"}, gateway.RuleOutsidePath, ""},
		{"no home", gateway.Landing{Wantsurl: "/x"}, gateway.RulePeerMissing, ""},
		{"an unknown home", gateway.Landing{IDP: "https://evil.test", Wantsurl: "/x"}, gateway.RulePeerUnknown, ""},
		{"ourselves", gateway.Landing{IDP: "https://forum.test/learn", Wantsurl: "/x"}, gateway.RulePeerUnknown, ""},
		{"a home that is off", gateway.Landing{IDP: "https://off.test", Wantsurl: "/x"}, gateway.RulePeerOff, ""},
		{"a home that is over", gateway.Landing{IDP: "https://over.test", Wantsurl: "/x"}, gateway.RulePeerExpired, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := gateway.DecideLanding(own, homes, test.in, now)
			if d.Rule != test.rule || d.Target.URL() != test.want || d.Allow != (test.want != "") {
				t.Errorf("%+v, want %s %q", d, test.rule, test.want)
			}
		})
	}
	if d := gateway.DecideLanding(own, homes.Closed(), gateway.Landing{IDP: "https://home.test/moodle", Wantsurl: "/x"}, now); d.Allow || d.Rule != gateway.RuleMNetOff {
		t.Errorf("with MNet switched off: %+v", d)
	}
}

// Every deep link that a home may send somebody to gets to Moodle unchanged.
func TestLandingsOfDeepLinksReachMoodleUnchanged(t *testing.T) {
	own, home := gateway.OwnSite(wwwroot(t, "https://forum.test")), &gateway.Peer{Wwwroot: wwwroot(t, "https://home.test")}
	homes := allowlist(t, home)
	for _, link := range corpus(t, "must-accept-deep-links.txt") {
		link = strings.ReplaceAll(link, "&amp;", "&")
		in, rule := gateway.ParseLanding("token=abc%2B%2F%3D&idp=https://home.test&wantsurl=" + url.QueryEscape(link))
		d := gateway.DecideLanding(own, homes, in, time.Time{})
		if rule != gateway.RuleOK || !d.Allow {
			t.Errorf("%q: %s %s", link, rule, d.Rule)
			continue
		}
		out, err := url.ParseQuery(in.Query(d.Target))
		if want := (url.Values{"token": {"abc+/="}, "idp": {"https://home.test"}, "wantsurl": {link}}); err != nil || cmp.Diff(want, out) != "" {
			t.Errorf("%q: %v %s", link, err, cmp.Diff(want, out))
		}
	}
}

// What land.php glues to its wwwroot, browsers find below it.
func TestNoPayloadLeavesTheSiteOfALanding(t *testing.T) {
	site := wwwroot(t, "https://forum.test")
	own, homes := gateway.OwnSite(site), allowlist(t, &gateway.Peer{Wwwroot: wwwroot(t, "https://home.test")})
	allowed := 0
	for _, payload := range append(corpus(t, "moodle-concat-payloads.txt"), corpus(t, "oauth2-proxy-openredirects.txt")...) {
		in := gateway.Landing{IDP: "https://home.test", Wantsurl: payload}
		d := gateway.DecideLanding(own, homes, in, time.Time{})
		if !d.Allow {
			continue
		}
		allowed++
		out, err := url.ParseQuery(in.Query(d.Target))
		glued := site.String() + out.Get("wantsurl")
		if err != nil || glued != d.Target.URL() || !strings.HasPrefix(glued, "https://forum.test/") {
			t.Errorf("%q becomes %q", payload, glued)
		}
	}
	if allowed == 0 {
		t.Error("not one was allowed, so nothing was tried")
	}
}

func TestOnlyWhatALearnerLooksAtIsANavigation(t *testing.T) {
	for _, test := range []struct {
		header http.Header
		want   bool
	}{
		{http.Header{}, true},
		{http.Header{"Sec-Fetch-Dest": {"document"}, "Sec-Fetch-Mode": {"navigate"}}, true},
		{http.Header{"Sec-Fetch-Dest": {"image"}}, false},
		{http.Header{"Sec-Fetch-Dest": {"iframe"}}, false},
		{http.Header{"Sec-Fetch-Dest": {"empty"}}, false},
		{http.Header{"Sec-Purpose": {"prefetch"}, "Sec-Fetch-Dest": {"document"}}, false},
		{http.Header{"Purpose": {"prefetch"}}, false},
		{http.Header{"X-Moz": {"prefetch"}}, false},
		{http.Header{"X-Requested-With": {"XMLHttpRequest"}}, false},
		{http.Header{"X-Requested-With": {"org.mozilla.firefox"}}, true},
	} {
		if got := gateway.Navigation(test.header); got != test.want {
			t.Errorf("%v: %v", test.header, got)
		}
	}
}

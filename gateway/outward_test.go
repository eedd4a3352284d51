package gateway_test

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	whatwg "github.com/nlnwa/whatwg-url/url"

	"jumpgate/gateway"
)

// outward are the redirects of a site with peers of each shape, and with each
// shape of what may be allowed.
func outward(t testing.TB) *gateway.Redirects {
	t.Helper()
	var allow []gateway.Destination
	for _, entry := range []string{
		"https://login.test", "https://cas.test:8443/cas", "https://*.wiki.example.org", "http://plain.test", "moodlemobile:", "https://xn--bcher-kva.example",
	} {
		allow = append(allow, destination(t, entry))
	}
	return gateway.NewRedirects(wwwroot(t, "https://home.test/moodle"), []gateway.Wwwroot{wwwroot(t, "http://old.test:8080")},
		allowlist(t, neighbours(t)...), "https://openid.test/realms/a", allow)
}

func TestWhereMoodleMaySendABrowser(t *testing.T) {
	const own, peer, allowed = "redirect-own", "redirect-peer", "redirect-allowed"
	const foreign, scheme, malformed = "redirect-foreign", "redirect-scheme", "redirect-malformed"
	tests := []struct {
		address, rule, where string // where is only of what is refused
	}{
		{"", own, ""},
		{"https://home.test/moodle/my/", own, ""},
		{"https://home.test/moodle/", own, ""},
		{"https://home.test", own, ""},
		{"https://home.test/elsewhere", own, ""},
		{"HTTPS://HOME.test:443/x", own, ""},
		{"http://old.test:8080/x", own, ""},
		{"https://openid.test/realms/a/auth?client_id=x", own, ""},
		{"/moodle/login/index.php", own, ""},
		{"view.php?id=1&x=https://evil.test", own, ""},
		{"../x", own, ""}, {"?x=//evil.test", own, ""}, {"#//evil.test", own, ""}, {"/", own, ""}, {"/?//evil.test", own, ""},
		// Relative, to a browser that came by https; not to one that came by http.
		{"https:evil.test", foreign, "https://evil.test/"}, {"https:/evil.test/x", foreign, "https://evil.test/x"}, {`HTTPS:\evil.test`, foreign, "https://evil.test/"},
		{"https:home.test/x", own, ""}, {"https:", malformed, "https://"},
		{"/ä b/%zz", own, ""}, {"/./\\evil.test", own, ""}, {"/\v/evil.test", own, ""}, {"ä//evil.test", own, ""},
		{"https://h%6Fme.test/x", own, ""},

		{"https://sp.test/mod/x?y#z", peer, ""},
		{"https://sp.test", peer, ""},
		{`https:\\SP.test\mod\x`, peer, ""},
		{"https://u.test/moodle/a/../b c", peer, ""},
		{"https://u.test/x", foreign, "https://u.test/x"},
		{"https://u.test/moodle/../x", foreign, "https://u.test/x"},
		{"https://u.test/moodle/../../moodle/x", foreign, "https://u.test/moodle/../../moodle/x"},
		{"http://sp.test/", foreign, "http://sp.test/"},
		{"https://off.test/", foreign, "https://off.test/"},
		{"https://over.test/", foreign, "https://over.test/"},

		{"https://login.test/auth?response_type=code", allowed, ""},
		{"https://LOGIN.test:443", allowed, ""},
		{"https://login.test:8443/", foreign, "https://login.test:8443/"},
		{"http://login.test/", foreign, "http://login.test/"},
		{"http:login.test/", foreign, "http://login.test/"},
		{"https://login.test.evil.test/", foreign, "https://login.test.evil.test/"},
		{"https://cas.test:8443/cas/login?service=x", allowed, ""},
		{"https://cas.test:8443/cas", allowed, ""},
		{"https://cas.test:8443/caster", foreign, "https://cas.test:8443/caster"},
		{"https://cas.test:8443/cas/../x", foreign, "https://cas.test:8443/x"},
		{"https://cas.test:8443/cas/%2e%2e/x", foreign, "https://cas.test:8443/x"},
		{"https://cas.test:8443/cas/..%2fx", foreign, "https://cas.test:8443/cas/..%2fx"},
		{"https://cas.test:8443/cas/%252e%252e/x", foreign, "https://cas.test:8443/cas/%252e%252e/x"},
		{"https://cas.test:8443/cas//../../x", foreign, "https://cas.test:8443/cas//../../x"}, // servers differ
		{"https://cas.test:8443//cas/x", foreign, "https://cas.test:8443//cas/x"},
		{"https://de.wiki.example.org/wiki/Ä", allowed, ""},
		{"https://a.b.wiki.example.org", allowed, ""},
		{"https://wiki.example.org/", foreign, "https://wiki.example.org/"},
		{"https://evilwiki.example.org/", foreign, "https://evilwiki.example.org/"},
		{"http://de.wiki.example.org/", foreign, "http://de.wiki.example.org/"},
		{"http://plain.test/x", allowed, ""},
		{"http:/plain.test/x", allowed, ""},
		{"moodlemobile://token=c2VjcmV0", allowed, ""},
		{"MOODLEMOBILE:x", allowed, ""},
		{"https://bücher.example/", allowed, ""},
		{"https://b%C3%BCcher.example/", allowed, ""},

		{"https://evil.test/a b\\c?code=secret#secret", foreign, "https://evil.test/a%20b/c"},
		{"//evil.test/x", foreign, "https://evil.test/x"},
		{`/\evil.test`, foreign, "https://evil.test/"},
		{`\\evil.test`, foreign, "https://evil.test/"},
		{"///evil.test", foreign, "https://evil.test/"},
		{"/\t/evil.test", foreign, "https://evil.test/"},
		{"ht\ntps\r://evil.test", foreign, "https://evil.test/"},
		{" \x01//evil.test ", foreign, "https://evil.test/"},
		{"http:evil.test", foreign, "http://evil.test/"},
		{"https:///evil.test", foreign, "https://evil.test/"},
		{"https://evil.test:/x", foreign, "https://evil.test/x"},
		{"https://ｅvil.test", foreign, "https://evil.test/"},
		{"https://[2001:db8::1]:8/", foreign, "https://[2001:db8::1]:8/"},

		{"javascript:alert(document.cookie)", scheme, "javascript:"},
		{"java\tscript:alert(1)", scheme, "javascript:"},
		{"data:text/html,secret", scheme, "data:"},
		{"intent://x#Intent;end", scheme, "intent:"},
		{"moodlemobiles://token=secret", scheme, "moodlemobiles:"},
		{"home.test:443/x", scheme, "home.test:"},

		{"https://ada:secret@home.test/", malformed, "https://home.test"},
		{"https://home.test@evil.test/", malformed, "https://evil.test"},
		{`https://home.test\@evil.test`, own, ""},
		{"https://", malformed, "https://"},
		{"//", malformed, "https://"},
		{"https://home.test./", malformed, "https://home.test."},
		{"https://0x7f.1/", malformed, "https://0x7f.1"},
		{"https://home.test:99999/", malformed, "https://home.test:99999"},
		{"https://home.test%3a443/", malformed, "https://home.test%3a443"},
		{"https://home.test%2f.evil.test/", malformed, "https://home.test%2f.evil.test"},
		{"https://a b.test/", malformed, "https://a b.test"},
		{"https://\xff.test/?secret", malformed, "https://\xff.test"},
		{"//" + strings.Repeat("ä", 600) + ".test/x", malformed, "https://" + strings.Repeat("ä", 600) + ".test"},
		{"https://" + strings.Repeat("a.", 130) + "test", malformed, "https://" + strings.Repeat("a.", 130) + "test"},
		{strings.Repeat("a", 70) + ":x", malformed, strings.Repeat("a", 64)},
	}
	r := outward(t)
	for _, test := range tests {
		d := r.Address(test.address, now)
		allow := test.rule == own || test.rule == peer || test.rule == allowed
		if string(d.Rule) != test.rule || d.Allow != allow || !allow && d.Where != test.where {
			t.Errorf("%q: %+v, want %s %q", test.address, d, test.rule, test.where)
		}
		if !strings.HasPrefix(d.Where, d.Origin) || strings.Contains(d.Where, "secret") {
			t.Errorf("%q is told as %q of %q", test.address, d.Where, d.Origin)
		}
		judgeOutward(t, r, test.address)
	}
	if d := r.Address("https://ends.test/", now.AddDate(50, 0, 0)); d.Allow {
		t.Errorf("a peer that is over: %+v", d)
	}
}

func TestRefresh(t *testing.T) {
	tests := []struct{ value, rule string }{
		{"", "redirect-own"}, {"5", "redirect-own"}, {" 0.5 ", "redirect-own"}, {"5;", "redirect-own"}, {"0; url=", "redirect-own"},
		{"0;url=/x", "redirect-own"}, {"0; url=view.php?id=3", "redirect-own"}, {"3, https://home.test/moodle/x", "redirect-own"},
		{"0;url=https://evil.test/", "redirect-foreign"},
		{"0; URL = 'https://evil.test/'", "redirect-foreign"},
		{`0;url="//evil.test`, "redirect-foreign"},
		{"0,url=//evil.test", "redirect-foreign"},
		{"0 url=//evil.test", "redirect-foreign"},
		{"0;//evil.test", "redirect-foreign"},
		{"0 , //evil.test", "redirect-foreign"},
		{".;//evil.test", "redirect-foreign"},
		{"0;'//evil.test'", "redirect-foreign"},
		{"0;\furl\f=\t//evil.test", "redirect-foreign"},
		{"0;url //evil.test", "redirect-own"}, {"0;u//evil.test", "redirect-own"}, {"0;uri=//evil.test", "redirect-own"},
		{"0;url=javascript:alert(1)", "redirect-scheme"},
		{"0;url=https://login.test/", "redirect-allowed"},
		{"0;url='https://home.test'@evil.test/'", "redirect-malformed"},
		{"soon;url=/x", "redirect-malformed"}, {"-1;url=//evil.test", "redirect-malformed"}, {"0x;url=//evil.test", "redirect-malformed"},
		{"url=//evil.test", "redirect-malformed"}, {";url=//evil.test", "redirect-malformed"},
	}
	r := outward(t)
	for _, test := range tests {
		if d := r.Refresh(test.value, now); string(d.Rule) != test.rule {
			t.Errorf("%q: %+v, want %s", test.value, d, test.rule)
		}
		judgeRefresh(t, r, test.value)
	}
}

func TestPlainAddressesOfOurOwnCostNothing(t *testing.T) {
	r := outward(t)
	for _, address := range []string{"https://home.test/moodle/my/?x=//evil.test", "/moodle/x", "/Z"} {
		if n := testing.AllocsPerRun(100, func() {
			if !r.Own(address) || !r.Address(address, now).Allow {
				t.Errorf("%q is not our own", address)
			}
		}); n != 0 {
			t.Errorf("%q: %v allocations", address, n)
		}
	}
	for _, address := range []string{"", "/", "//evil.test", `/\evil.test`, "/\t/evil.test", "https://home.test/moodlex", "https://home.test/moodle", "/1", "/@", "/["} {
		if r.Own(address) {
			t.Errorf("%q is taken for our own without a look", address)
		}
	}
}

// browserGoes returns the origin that a browser reads in an address on a page of
// the site, and the path there; an address that it does not read leads nowhere.
func browserGoes(address string) (origin, path string, ok bool) {
	return browserGoesFrom("https://home.test/moodle/login/index.php?x#y", address)
}

func browserGoesFrom(page, address string) (origin, path string, ok bool) {
	seen, err := whatwg.ParseRef(page, address)
	if err != nil {
		return "", "", false
	}
	if seen.Protocol() != "http:" && seen.Protocol() != "https:" {
		return seen.Protocol(), "", true
	}
	return seen.Protocol() + "//" + seen.Host(), seen.Pathname(), true
}

// mayGo says where a browser may be sent by outward, as the browser sees it.
func mayGo(origin, path string) bool {
	switch origin {
	case "https://home.test", "http://old.test:8080", "https://openid.test", "https://login.test", "http://plain.test", "moodlemobile:", "https://xn--bcher-kva.example",
		"https://sp.test", "http://sp.test:8090", "https://ends.test", "https://shut.test":
		return true
	case "https://u.test":
		return below(path, "/moodle") || below(path, "/other")
	case "https://m.test":
		return below(path, "/portfolio")
	case "https://cas.test:8443":
		return below(path, "/cas")
	}
	return strings.HasPrefix(origin, "https://") && strings.HasSuffix(origin, ".wiki.example.org")
}

func below(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

func judgeOutward(t testing.TB, r *gateway.Redirects, address string) {
	t.Helper()
	d := r.Address(address, now)
	origin, path, ok := browserGoes(address)
	nowhere := !ok && d.Origin == "moodlemobile:" // for a browser, which asks no app then
	if d.Allow && !nowhere && (!ok || !mayGo(origin, path)) {
		t.Errorf("%q is allowed by %s, and a browser goes to %q %q (%v)", address, d.Rule, origin, path, ok)
	}
	// Nor does one that has come by http: what is relative to the other is not to it.
	plain, plainPath, plainOK := browserGoesFrom("http://home.test/moodle/login/index.php?x#y", address)
	if https := strings.Replace(plain, "http:", "https:", 1); d.Allow && plainOK && !mayGo(plain, plainPath) && !mayGo(https, plainPath) {
		t.Errorf("%q is allowed by %s, and a browser that came by http goes to %q %q", address, d.Rule, plain, plainPath)
	}
	// A host that everybody spells alike is told as the browser sees it.
	if !d.Allow && d.Rule == gateway.RuleRedirectForeign && (!ok || origin != d.Origin) && (!plainOK || plain != d.Origin) {
		t.Errorf("%q is told as %q, and a browser goes to %q (%v)", address, d.Origin, origin, ok)
	}
}

// judgeRefresh is judgeOutward for the address that the HTML standard finds in a
// Refresh field.
func judgeRefresh(t testing.TB, r *gateway.Redirects, value string) {
	t.Helper()
	d := r.Refresh(value, now)
	address, ok := declarativeRefresh(value)
	if !d.Allow || !ok {
		return
	}
	if origin, path, ok := browserGoes(address); ok && !mayGo(origin, path) {
		t.Errorf("Refresh %q is allowed by %s, and a browser goes to %q", value, d.Rule, address)
	}
}

// declarativeRefresh is the algorithm of the HTML standard, step by step; false
// means that nothing happens.
func declarativeRefresh(input string) (string, bool) {
	i := 0
	while := func(set string) bool {
		from := i
		for i < len(input) && strings.IndexByte(set, input[i]) >= 0 {
			i++
		}
		return i > from
	}
	const space = "\t\n\f\r "
	while(space)
	if !while("0123456789") && (i == len(input) || input[i] != '.') {
		return "", false
	}
	while("0123456789.")
	if i == len(input) {
		return "", true
	}
	if strings.IndexByte(";,"+space, input[i]) < 0 {
		return "", false
	}
	while(space)
	if i < len(input) && (input[i] == ';' || input[i] == ',') {
		i++
	}
	while(space)
	whole := input[i:]
	next := func(c byte) bool {
		if i < len(input) && input[i]|0x20 == c|0x20 {
			i++
			return true
		}
		return false
	}
	if next('u') {
		if !next('r') || !next('l') {
			return whole, true
		}
		while(space)
		if i == len(input) || input[i] != '=' {
			return whole, true
		}
		i++
		while(space)
	}
	address := input[i:]
	if address != "" && (address[0] == '"' || address[0] == '\'') {
		address, _, _ = strings.Cut(address[1:], address[:1])
	}
	return address, true
}

// outwardSeeds are redirects of a real Moodle, and pieces from which others grow.
var outwardSeeds = []string{
	"https://home.test/moodle/my/", "/moodle/x", "view.php?id=3", "https:evil.test", `https:\\evil.test`, "http:evil.test", "/\t/evil.test", `/\evil.test`,
	"https://home.test@evil.test/", "https://home.test\t.evil.test", "//sp.test/x", "https://u.test/moodle/%2e%2e/x", "https://cas.test:8443/cas/..\\x",
	"moodlemobile://token=x", "java\nscript:x", "https://xn--bcher-kva.example/", "https://bücher.example", "https://%68ome.test", "https://de.wiki.example.org:443",
	"https://login.test/realms/a/protocol/openid-connect/auth?client_id=moodle", "https://cas.test:8443/cas/login?service=https%3A%2F%2Fhome.test",
	"0;url='//evil.test'", "5", "0 , URL = https://home.test/", "https://home.test:0443", "https://[::1]/", "https://HOME。test/",
}

// FuzzOutward looks for an address that is allowed, in either form, and by which a
// browser leaves for somewhere else.
func FuzzOutward(f *testing.F) {
	for _, seed := range outwardSeeds {
		f.Add(seed)
	}
	r := outward(f)
	f.Fuzz(func(t *testing.T, value string) {
		judgeOutward(t, r, value)
		judgeRefresh(t, r, value)
	})
}

// TestNoRedirectOfTheCorporaIsTakenForOurOwn puts every line of the corpora where
// Moodle might put it, as it is and unescaped.
func TestNoRedirectOfTheCorporaIsTakenForOurOwn(t *testing.T) {
	r := outward(t)
	lines := append(corpus(t, "oauth2-proxy-openredirects.txt"), corpus(t, "moodle-concat-payloads.txt")...)
	for _, line := range corpus(t, "crafted-differentials.txt") {
		plain, err := strconv.Unquote(line)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, plain)
	}
	refused := 0
	for _, line := range lines {
		for range 3 {
			for _, address := range []string{line, "https://home.test" + line, "https://" + line, "/" + line} {
				judgeOutward(t, r, address)
				judgeRefresh(t, r, "0;url="+address)
				judgeRefresh(t, r, "0;url='"+address+"'")
				if !r.Address(address, now).Allow {
					refused++
				}
			}
			plain, err := url.QueryUnescape(line)
			if err != nil || plain == line {
				break
			}
			line = plain
		}
	}
	if len(lines) < 500 || refused < len(lines) {
		t.Errorf("%d of %d lines in four forms are refused", refused, len(lines))
	}
	if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "\t") }) {
		t.Error("no line has a tab")
	}
}

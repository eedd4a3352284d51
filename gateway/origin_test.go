package gateway_test

import (
	"net/http"
	"testing"

	"jumpgate/gateway"
)

func TestWhereAJumpCameFrom(t *testing.T) {
	site, alias := wwwroot(t, "https://home.test/moodle"), wwwroot(t, "http://old.test:8080")
	for _, test := range []struct {
		name   string
		header http.Header
		want   gateway.Origin
	}{
		{"a click on a page of the site", http.Header{"Sec-Fetch-Site": {"same-origin"}}, gateway.OriginOwn},
		{"on one of its domain", http.Header{"Sec-Fetch-Site": {"same-site"}}, gateway.OriginNear},
		{"in a mail program", http.Header{"Sec-Fetch-Site": {"none"}}, gateway.OriginNone},
		{"on a foreign page", http.Header{"Sec-Fetch-Site": {"cross-site"}}, gateway.OriginCross},
		{"a foreign page that pretends in its Referer", http.Header{"Sec-Fetch-Site": {"cross-site"}, "Referer": {"https://home.test/"}, "Origin": {"https://home.test"}}, gateway.OriginCross},
		{"a word that does not exist", http.Header{"Sec-Fetch-Site": {"SAME-ORIGIN"}, "Referer": {"https://home.test/"}}, gateway.OriginCross},
		{"an empty word", http.Header{"Sec-Fetch-Site": {""}, "Referer": {"https://home.test/"}}, gateway.OriginCross},
		{"two words", http.Header{"Sec-Fetch-Site": {"none", "cross-site"}}, gateway.OriginCross},
		{"an older browser on a page of the site", http.Header{"Referer": {"https://HOME.test:443/moodle/course/view.php?id=2"}}, gateway.OriginOwn},
		{"whose Referer is cut down to the origin", http.Header{"Referer": {"https://home.test/"}}, gateway.OriginOwn},
		{"on a page of an alias", http.Header{"Referer": {"http://old.test:8080/x"}}, gateway.OriginOwn},
		{"on another port", http.Header{"Referer": {"http://old.test/x"}}, gateway.OriginCross},
		{"without TLS", http.Header{"Referer": {"http://home.test/moodle"}}, gateway.OriginCross},
		{"on a host that ends like ours", http.Header{"Referer": {"https://nothome.test/"}}, gateway.OriginCross},
		{"on a host that begins like ours", http.Header{"Referer": {"https://home.test.evil.test/"}}, gateway.OriginCross},
		{"with our name before an @", http.Header{"Referer": {"https://home.test@evil.test/"}}, gateway.OriginCross},
		{"with a user at our host", http.Header{"Referer": {"https://user@home.test/"}}, gateway.OriginCross},
		{"an gateway.Origin of ours", http.Header{"Origin": {"https://home.test"}}, gateway.OriginOwn},
		{"an gateway.Origin that wins over the Referer", http.Header{"Origin": {"https://evil.test"}, "Referer": {"https://home.test/"}}, gateway.OriginCross},
		{"the gateway.Origin of a sandbox", http.Header{"Origin": {"null"}, "Referer": {"https://home.test/"}}, gateway.OriginCross},
		{"a Referer that cannot be read", http.Header{"Referer": {"https://home.test\x00/%zz"}}, gateway.OriginCross},
		{"an opaque Referer", http.Header{"Referer": {"https:home.test"}}, gateway.OriginCross},
		{"nothing to go by", http.Header{}, gateway.OriginCross},
	} {
		if got := gateway.OriginOf(test.header, site, alias); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestWhatIsNotKnownIsForeign(t *testing.T) {
	for o, foreign := range map[gateway.Origin]bool{gateway.OriginOwn: false, gateway.OriginNear: false, gateway.OriginNone: false, gateway.OriginCross: true, "": true, "own": true} {
		if o.Foreign() != foreign {
			t.Errorf("%q: foreign is %v", o, !foreign)
		}
	}
}

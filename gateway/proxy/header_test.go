package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fold does to a header name what PHP and CGI do.
func fold(name string) string {
	return "HTTP_" + strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			return c
		}
		return '_'
	}, strings.ToUpper(name))
}

var spoofed = []string{
	"Forwarded", "X-Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
	"X-Forwarded-Server", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Prefix", "X-Forwarded-Uri",
	"X-Forwarded-Access-Token", "X-Real-IP", "Client-IP", "X-Client-IP", "True-Client-IP", "X-Cluster-Client-IP",
	"CF-Connecting-IP", "CF-Connecting-IPv6", "Fastly-Client-IP", "X-Original-Forwarded-For", "X-Original-URL",
	"X-Rewrite-URL", "X-Original-Host", "X-Host", "Front-End-Https", "X-Url-Scheme", "Remote-User", "X-Remote-User",
	"Remote-Groups", "X-Remote-Group", "Auth-User", "X-Auth-User", "X-Auth-Request-Email", "X-Authenticated-User",
	"X-Jumpgate-Username", "X-Jumpgate", "Jumpgate-User", "Jumpgate-Assertion", "Proxy", "Shib-Session-ID", "X-WebAuth-User",
	"X-MS-Client-Principal-Name", "X-Goog-Authenticated-User-Email", "SSL-Client-S-DN", "OIDC-Claim-Sub", "X-Envoy-External-Address",
	"Proxy-Authorization", "Proxy-Connection", "Keep-Alive", "TE", "Trailer", "HTTP2-Settings", "Upgrade",
}

func TestEverySpellingOfAForeignClaimIsDropped(t *testing.T) {
	for _, name := range spoofed {
		for _, spelling := range []string{
			name, strings.ToLower(name), strings.ToUpper(name),
			strings.ReplaceAll(name, "-", "_"), strings.Replace(name, "-", "_", 1), strings.ReplaceAll(name, "-", "."),
			strings.ToLower(strings.ReplaceAll(name, "-", "~")), http.CanonicalHeaderKey(strings.ToLower(name)),
		} {
			if !dropped(spelling) {
				t.Errorf("%s passes", spelling)
			}
		}
	}
	for _, name := range []string{"Content_Length", "content_type", "CONTENT-TYPE_", "a_b", "a b", "a:b", "ä", "", "a.b", "x\x00"} {
		if !dropped(name) {
			t.Errorf("%q passes", name)
		}
	}
}

func TestOrdinaryHeadersPass(t *testing.T) {
	for _, name := range []string{
		"Accept", "Authorization", "Content-Type", "Cookie", "Host", "If-None-Match", "Origin", "Range", "Referer", "User-Agent",
		"X-Requested-With", "X-Csrf-Token", "X-Auth-Token", "X-Api-Key", "Sec-Websocket-Key", "Sec-Websocket-Protocol",
		"Traceparent", "Soapaction", "Depth", "Destination", "Last-Event-Id", "X-Experience-Api-Version", "Want-Digest", "Expect",
		"X-Http-Method-Override", "Via", "Dnt", "Save-Data", "A-Name-That-Is-Much-Longer-Than-The-Buffer-For-Names",
	} {
		if dropped(name) {
			t.Errorf("%s is dropped", name)
		}
	}
	for name := range ordinary {
		if dropped(name) || name != http.CanonicalHeaderKey(name) {
			t.Errorf("%s is not as ordinary as the list says", name)
		}
	}
}

// What the upstream sees of a request in which everything is forged, in raw
// bytes.
func TestTheUpstreamSeesOnlyOurClaims(t *testing.T) {
	heads := make(chan string, 1)
	up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		head, err := readHead(r)
		if err != nil {
			return
		}
		heads <- head
		io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	})
	address := front(t, up, func(o *Options) { o.RequestID = func(*http.Request) string { return "id-1" } })

	var request strings.Builder
	request.WriteString("GET / HTTP/1.1\r\nHost: moodle.test:8080\r\nAccept: */*\r\nX-Request-ID: forged\r\nx_request_id: forged\r\n")
	for _, name := range spoofed {
		for _, spelling := range []string{name, strings.ToLower(name), strings.ReplaceAll(name, "-", "_")} {
			if value := "forged"; fold(name) != "HTTP_TRAILER" {
				request.WriteString(spelling + ": " + value + "\r\n")
			}
		}
	}
	request.WriteString("Connection: X-Forwarded-For, x-forwarded-proto,X-Forwarded-Host, X-Request-Id, Accept-Secret, close\r\n")
	request.WriteString("Accept-Secret: one connection\r\n")
	request.WriteString("Cookie: a=1; jumpgate-id=secret; b=2\r\n\r\n")
	if res, body := exchangeRaw(t, address, request.String()); res.StatusCode != http.StatusNoContent {
		t.Fatal(res.Status, body)
	}
	got := strings.Split(strings.TrimSpace(<-heads), "\r\n")
	slices.Sort(got[1:])
	want := []string{
		"GET / HTTP/1.1",
		"Accept: */*",
		"Cookie: a=1; b=2",
		"Host: moodle.test:8080",
		"X-Forwarded-For: 127.0.0.1",
		"X-Forwarded-Host: moodle.test:8080",
		"X-Forwarded-Proto: https",
		"X-Request-Id: id-1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("head (-want +got):\n%s", diff)
	}
}

func TestTrustedProxiesNameTheClient(t *testing.T) {
	heads := make(chan string, 1)
	up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		head, err := readHead(r)
		if err != nil {
			return
		}
		heads <- head
		io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	})
	address := front(t, up, func(o *Options) { o.Trust = Trust{netip.MustParsePrefix("127.0.0.0/8")} })
	exchangeRaw(t, address, "GET / HTTP/1.1\r\nHost: m\r\nX-Forwarded-For: 203.0.113.9, 198.51.100.7\r\nX-Forwarded-Proto: http\r\n\r\n")
	head := <-heads
	if !strings.Contains(head, "X-Forwarded-For: 198.51.100.7\r\n") || !strings.Contains(head, "X-Forwarded-Proto: https\r\n") {
		t.Error(head)
	}
}

func TestUpgradesThatHideHTTPAreNotPassedOn(t *testing.T) {
	tests := []struct{ connection, upgrade, want string }{
		{"Upgrade", "websocket", "websocket"},
		{"keep-alive, upgrade", "WebSocket", "WebSocket"},
		{"Upgrade", "echo/1", "echo/1"},
		{"keep-alive", "websocket", ""},
		{"Upgrade, HTTP2-Settings", "h2c", ""},
		{"Upgrade", "H2C", ""},
		{"Upgrade", "h2c/1", ""},
		{"Upgrade", "HTTP/2.0", ""},
		{"Upgrade", "TLS/1.3", ""},
		{"Upgrade", "websocket, h2c", ""},
		{"Upgrade", "h2c,websocket", ""},
		{"Upgrade", "", ""},
		{"Upgrade", "web socket", ""},
	}
	for _, tt := range tests {
		r := &http.Request{ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Connection": {tt.connection}, "Upgrade": {tt.upgrade}}}
		if got := upgradeToken(r); got != tt.want {
			t.Errorf("%q is passed on as %q, want %q", tt.upgrade, got, tt.want)
		}
	}
	twice := &http.Request{ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket", "h2c"}}}
	if got := upgradeToken(twice); got != "" {
		t.Errorf("two Upgrade fields are passed on as %q", got)
	}
}

func FuzzDropped(f *testing.F) {
	for _, name := range spoofed {
		f.Add(name)
		f.Add(strings.ReplaceAll(name, "-", "_"))
	}
	f.Add("Accept")
	claims := map[string]string{"CONTENT_LENGTH": "", "CONTENT_TYPE": ""}
	for _, name := range spoofed {
		claims[fold(name)] = name
	}
	f.Fuzz(func(t *testing.T, name string) {
		if claim, ok := claims[fold(name)]; ok && !dropped(name) {
			t.Errorf("%q passes and is %s for PHP", name, claim)
		}
	})
}

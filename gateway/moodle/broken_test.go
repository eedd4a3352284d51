package moodle

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"jumpgate/gateway"
)

// An answer in a form that nobody can read may hold the learner's new session,
// and errors are logged.
func TestErrorsQuoteNothingOfABrokenAnswer(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 303 See Other\r\nSet-Cookie: MoodleSession=secret\x01\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nSet-Cookie: MoodleSession=secret\x01\r\n\r\n",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, answer)
		}))
		defer server.Close()
		upstream, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		site, err := gateway.ParseWwwroot("https://home.example")
		if err != nil {
			t.Fatal(err)
		}
		w, b := NewWeb(WebOptions{Upstream: upstream, Site: site}), NewBehind(BehindOptions{Upstream: upstream, Site: site})
		_, identity := w.Identity(t.Context(), testBrowser)
		_, _, picture := b.Picture(t.Context(), 3, PictureLarge)
		for what, err := range map[string]error{
			"identity": identity, "logout": w.Logout(t.Context(), testBrowser, 3), "picture": picture,
		} {
			if err == nil || !strings.Contains(err.Error(), "malformed") || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s, %q: %v", what, answer, err)
			}
		}
	}
}

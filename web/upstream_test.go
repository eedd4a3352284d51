package web_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// What a Moodle, or what stands before it, sends in a form that nobody can read
// may be a learner's new session.
func TestASecretInABrokenAnswerIsNotLogged(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nSet-Cookie: MoodleSession=secret\x01\r\n\r\n",
		"HTTP/1.1 200 OK\r\nSet-Cookie MoodleSession=secret\r\n\r\n",
		"Set-Cookie: MoodleSession=secret\r\n\r\n",
	} {
		f := newFront(t, "https://home.test")
		f.upstream.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, answer)
		})
		for _, method := range []string{"GET", "POST"} { // which reach the Moodle in different ways
			w := f.do(method, "https://home.test/my/")
			if text := f.log.String(); w.Code != 502 || strings.Contains(text+w.Body.String(), "secret") || !strings.Contains(text, "malformed") {
				t.Errorf("%s, %q: %d, logged %s", method, answer, w.Code, text)
			}
		}
	}
}

package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"jumpgate/gateway"
)

// Whatever net/http cannot make sense of in an answer it quotes.
func TestWhatIsWrongWithAnAnswerIsToldWithoutTheAnswer(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nSet-Cookie: s=secret\x01\r\n\r\n":                                      "malformed MIME header line",
		"HTTP/1.1 200 OK\r\nSet-Cookie; s=secret\r\n\r\n":                                          "malformed MIME header",
		"HTTP/1.1 200 OK\r\n Set-Cookie: s=secret\r\n\r\n":                                         "malformed MIME header initial line",
		"Set-Cookie: s=secret\r\n\r\n":                                                             "malformed HTTP",
		"HTTP/1.1 secret OK\r\n\r\n":                                                               "malformed HTTP status code",
		"HTTP/secret 200 OK\r\n\r\n":                                                               "malformed HTTP version",
		"HTTP/1.1 200 OK\r\nContent-Length: secret\r\n\r\n":                                        "bad Content-Length",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: secret\r\n\r\n":                                     "unsupported transfer encoding",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nSet-Cookie: secret\x01\r\n\r\n": "malformed MIME header line",
	} {
		res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
		if err == nil {
			_, err = io.ReadAll(res.Body)
		}
		if err == nil || !strings.Contains(err.Error(), "secret") {
			t.Fatalf("%q: net/http says %v, and the test tests nothing", answer, err)
		}
		got := gateway.Unquoted(fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", err))
		if text := got.Error(); strings.Contains(text, "secret") || !strings.Contains(text, want) {
			t.Errorf("%q: %q", answer, text)
		}
		if !errors.Is(got, err) {
			t.Errorf("%q: the error itself is lost", answer)
		}
		asked := gateway.Unquoted(&url.Error{Op: "Get", URL: "https://sp.test/x", Err: err}).Error()
		if strings.Contains(asked, "secret") || !strings.Contains(asked, "https://sp.test/x") || !strings.Contains(asked, want) {
			t.Errorf("%q, by a client: %q", answer, asked)
		}
	}
}

func TestWhyThereIsNoConnectionIsToldInFull(t *testing.T) {
	if gateway.Unquoted(nil) != nil {
		t.Error("an error out of nothing")
	}
	shut := httptest.NewServer(nil)
	shut.Close()
	_, refused := http.Get(shut.URL)
	unknown := httptest.NewUnstartedServer(nil)
	unknown.Config.ErrorLog = log.New(io.Discard, "", 0)
	unknown.StartTLS()
	defer unknown.Close()
	_, distrusted := http.Get(unknown.URL)
	for _, err := range []error{
		refused, distrusted, io.EOF, context.DeadlineExceeded, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: `a"b`}},
		&tls.CertificateVerificationError{Err: errors.New(`x509: signed by "somebody"`)},
	} {
		if got := gateway.Unquoted(err); got.Error() != err.Error() {
			t.Errorf("%q became %q", err, got)
		}
	}
}

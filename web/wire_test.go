package web_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway/proxy"
	"jumpgate/web"
)

// serve runs a handler as the program does and returns its address.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	l, err := proxy.Listen(t.Context(), "127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	server := proxy.NewServer(h, slog.New(slog.DiscardHandler))
	ended := make(chan error)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-ended })
	return l.Addr().String()
}

// send writes bytes to a server and returns the response to a request of the
// given method, and whether the server then closed the connection.
func send(t *testing.T, address, method, bytes string) (res *http.Response, body string, closed bool) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second)) // of the test, not of the server
	if _, err := io.WriteString(c, bytes); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	if res, err = http.ReadResponse(in, &http.Request{Method: method}); err != nil {
		t.Fatalf("%.60q: %v", bytes, err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.Close {
		_, err = in.ReadByte()
	}
	return res, string(b), res.Close && err == io.EOF
}

func TestAddressesThatServersReadDifferentlyAreRefused(t *testing.T) {
	f := newFront(t, "http://home.test")
	address := serve(t, f)
	for _, target := range []string{
		"x:http://home.test/auth/mnet/jump.php?hostwwwroot=https://sp.test",
		"x:http://internal.example/admin",
		"/auth/mnet/jump.php#x",
		"/mnet/xmlrpc/server.php#",
		"/my/?x=1#y",
		"*",
	} {
		for _, method := range []string{"GET", "POST"} {
			res, body, _ := send(t, address, method, method+" "+target+" HTTP/1.1\r\nHost: home.test\r\nContent-Length: 0\r\n\r\n")
			if res.StatusCode != 400 || strings.Contains(body, "upstream ") || strings.Contains(body, "rpc") {
				t.Errorf("%s %s: %d %.60s", method, target, res.StatusCode, body)
			}
		}
	}
	// What means the same to everybody passes.
	for target, want := range map[string]string{
		"/my/?x=%23":             "upstream /my/?x=%23",
		"http://home.test/my/?x": "upstream /my/?x",
		"/a\\b|c":                "upstream /a\\b|c",
	} {
		if _, body, _ := send(t, address, "GET", "GET "+target+" HTTP/1.1\r\nHost: home.test\r\n\r\n"); body != want {
			t.Errorf("%s: %q, want %q", target, body, want)
		}
	}
}

func TestOurAnswersDoNotWaitForABody(t *testing.T) {
	f := newFront(t, "http://home.test")
	address := serve(t, f)
	admin := serve(t, web.NewAdmin(f.metrics, func() string { return "" }))
	tests := []struct {
		name, address, method, host, target string
		status                              int
	}{
		{"a jump", address, "GET", "home.test", "/auth/mnet/jump.php", 400},
		{"a jump by POST", address, "POST", "home.test", "/auth/mnet/jump.php", 405},
		{"a page that is not there", address, "POST", "home.test", "/auth/mnet//jump.php", 404},
		{"the public key", address, "GET", "home.test", "/mnet/publickey.php", 200},
		{"another host", address, "POST", "evil.test", "/", 404},
		{"a damaged address", address, "POST", "home.test", "/#", 400},
		{"a method that is not passed on", address, "TRACE", "home.test", "/", 405},
		{"health", admin, "GET", "x", "/healthz", 200},
		{"nothing of the admin's", admin, "POST", "x", "/", 404},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			res, _, closed := send(t, test.address, test.method,
				fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 100\r\n\r\n", test.method, test.target, test.host))
			if res.StatusCode != test.status || !closed {
				t.Errorf("status %d, want %d; closed %v", res.StatusCode, test.status, closed)
			}
		})
	}
}

func TestAFaultOfOursIsLoggedAndEndsTheConnection(t *testing.T) {
	f := newFront(t, "http://home.test")
	f.rpc = func(http.ResponseWriter, *http.Request) { panic("a bug") }
	address := serve(t, f)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "POST /mnet/xmlrpc/server.php HTTP/1.1\r\nHost: home.test\r\nContent-Length: 0\r\n\r\n")
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("answered %q, %v", b, err)
	}
	if log := f.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "a bug") || !strings.Contains(log, "wire_test.go") {
		t.Errorf("the log: %s", log)
	}
}

package proxy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const okResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// counting answers every request with what answer returns for it, the first
// being number 1, and counts connections.
func counting(t *testing.T, connections *atomic.Int32, answer func(n int32, head string) string) string {
	var requests atomic.Int32
	return rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		connections.Add(1)
		for {
			head, err := readHead(r)
			if err != nil {
				return
			}
			io.WriteString(c, answer(requests.Add(1), head))
		}
	})
}

func TestConnectionsAreUsedAgainUnlessTheResponseForbidsIt(t *testing.T) {
	tests := []struct {
		name, request, response string
		connections             int32 // for three requests
	}{
		{"a body with a length", "GET", okResponse, 1},
		{"chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 1},
		{"chunks and a trailer", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-A: b\r\n\r\n", 1},
		{"no body", "GET", "HTTP/1.1 304 Not Modified\r\n\r\n", 1},
		{"a hint first", "GET", "HTTP/1.1 103 Early Hints\r\n\r\n" + okResponse, 1},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 1},
		{"close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 3},
		{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 3},
		// What comes after a response would be taken for the next one.
		{"a body that is longer than it says", "GET", okResponse + "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong", 3},
		{"a body where none may be", "HEAD", okResponse, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var connections atomic.Int32
			up := counting(t, &connections, func(int32, string) string { return tt.response })
			address := front(t, up, nil)
			for range 3 {
				res, body := exchangeFinal(t, address, tt.request+" / HTTP/1.1\r\nHost: m\r\n\r\n")
				if res.StatusCode >= 400 || body != "ok" && body != "" {
					t.Fatal(res.Status, body)
				}
			}
			if n := connections.Load(); n != tt.connections {
				t.Errorf("%d connections, want %d", n, tt.connections)
			}
		})
	}
}

// exchangeFinal is exchangeRaw past the 1xx responses.
func exchangeFinal(t *testing.T, address, request string) (*http.Response, string) {
	t.Helper()
	c, r := dial(t, address)
	io.WriteString(c, request)
	method, _, _ := strings.Cut(request, " ")
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode >= 200 {
			body, _ := io.ReadAll(res.Body)
			return res, string(body)
		}
	}
}

// A response that nobody asked for must reach nobody, even if it comes while
// its connection is idle.
func TestAnUnaskedResponseReachesNobody(t *testing.T) {
	send, sent := make(chan bool), make(chan bool)
	var connections atomic.Int32
	up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		first := connections.Add(1) == 1
		for {
			if _, err := readHead(r); err != nil {
				return
			}
			io.WriteString(c, okResponse)
			if first {
				<-send
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsomebody")
				close(sent)
			}
		}
	})
	address := front(t, up, nil)
	if _, body := exchangeRaw(t, address, "GET / HTTP/1.1\r\nHost: m\r\n\r\n"); body != "ok" {
		t.Fatal(body)
	}
	send <- true
	<-sent
	if _, body := exchangeRaw(t, address, "GET / HTTP/1.1\r\nHost: m\r\n\r\n"); body != "ok" || connections.Load() != 2 {
		t.Errorf("%q over %d connections", body, connections.Load())
	}
}

func TestACallersAnswerLeavesTheConnectionUsable(t *testing.T) {
	var connections atomic.Int32
	up := counting(t, &connections, func(int32, string) string { return okResponse })
	p := newProxy(t, up, nil)
	address := frontHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.Serve(w, r, func(w http.ResponseWriter, _ *http.Request, _ *http.Response) bool {
			w.WriteHeader(http.StatusTeapot)
			return true
		})
	}), 0)
	for range 3 {
		if res, _ := exchangeRaw(t, address, "GET / HTTP/1.1\r\nHost: m\r\n\r\n"); res.StatusCode != http.StatusTeapot {
			t.Fatal(res.Status)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	gone := make(chan bool, 2)
	up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := readHead(r); err != nil {
				gone <- true
				return
			}
			io.WriteString(c, okResponse)
		}
	})
	p := newProxy(t, up, nil)
	address := frontHandler(t, p, 0)
	exchangeRaw(t, address, "GET / HTTP/1.1\r\nHost: m\r\n\r\n")
	p.links.mu.Lock()
	p.links.idle[0].since = time.Now().Add(-2 * idleTimeout)
	p.links.mu.Unlock()
	p.links.closeOld()
	<-gone
	exchangeRaw(t, address, "GET / HTTP/1.1\r\nHost: m\r\n\r\n")
	p.CloseIdle()
	<-gone
}

// Many requests at once, over few or many connections, some of which clients
// leave early: everybody gets his own answer.
func TestEverybodyGetsHisOwnAnswer(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		size := len(r.URL.Path) * 3000
		if strings.HasSuffix(r.URL.Path, "x") {
			w.Header().Set("Content-Length", fmt.Sprint(size))
		}
		_, _ = io.Copy(w, io.LimitReader(strings.NewReader(strings.Repeat(r.URL.Path, 3000)), int64(size)))
	})
	address := front(t, up, nil)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
			defer client.CloseIdleConnections()
			for i := range 40 {
				path := fmt.Sprintf("/%d-%d%s", worker, i, strings.Repeat("x", i%2))
				res, err := client.Get("http://" + address + path)
				if err != nil {
					t.Error(err)
					return
				}
				if i%5 == 4 {
					res.Body.Close()
					continue
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if string(body) != strings.Repeat(path, 3000) || err != nil {
					t.Errorf("%s got %.20q and %d bytes, %v", path, body, len(body), err)
				}
			}
		})
	}
	wg.Wait()
}

func TestALateBodyIsNotCutByTheHeaderTimeout(t *testing.T) {
	const limit = 50 * time.Millisecond
	up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
			time.Sleep(4 * limit)
			io.WriteString(c, "k")
		}
	})
	address := front(t, up, func(o *Options) { o.ResponseHeaderTimeout = limit })
	if _, body := exchangeRaw(t, address, "GET / HTTP/1.1\r\nHost: m\r\n\r\n"); body != "ok" {
		t.Errorf("%q", body)
	}
}

func TestAnUpstreamMaySpeakTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Host, " ", r.Proto)
	}))
	defer s.Close()
	p := newProxy(t, "", func(o *Options) { o.Upstream, _ = url.Parse(s.URL) })
	if res, _ := exchangeRaw(t, frontHandler(t, p, 0), "GET / HTTP/1.1\r\nHost: m\r\n\r\n"); res.StatusCode != http.StatusBadGateway {
		t.Errorf("an unknown certificate: %d", res.StatusCode)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	p.transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	if res, body := exchangeRaw(t, frontHandler(t, p, 0), "GET / HTTP/1.1\r\nHost: m\r\n\r\n"); body != "m HTTP/1.1" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

// HTTP/2 can say things in its header that would mean something else in the
// request line and header of HTTP/1.
func TestNothingOfHTTP2BecomesSyntaxOfHTTP1(t *testing.T) {
	heads := make(chan string, 1)
	up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		for {
			head, err := readHead(r)
			if err != nil {
				return
			}
			heads <- head
			io.WriteString(c, okResponse)
		}
	})
	p := newProxy(t, up, nil)
	for _, method := range []string{"GET", "POST"} {
		r := &http.Request{Method: method, Proto: "HTTP/2.0", ProtoMajor: 2, Host: "m", RequestURI: "/a b?c d", URL: &url.URL{Path: "/a b"},
			Header: http.Header{"Content-Length": {"100"}, "Host": {"evil.test"}, "Transfer-Encoding": {"chunked"}, "A": {"b"}}}
		p.ServeHTTP(httptest.NewRecorder(), r.WithContext(t.Context()))
		head := <-heads
		if !strings.HasPrefix(head, method+" /a%20b?c%20d HTTP/1.1\r\nHost: m\r\n") || strings.Contains(head, "evil") ||
			strings.Contains(head, "100") || strings.Contains(head, "chunked") || !strings.Contains(head, "A: b\r\n") {
			t.Error(head)
		}
	}
}

func TestAHostThatIsNoneIsRefused(t *testing.T) {
	p := newProxy(t, "127.0.0.1:1", nil)
	w := httptest.NewRecorder()
	p.ServeHTTP(w, &http.Request{Method: "GET", ProtoMajor: 2, Host: "m x", RequestURI: "/", URL: &url.URL{Path: "/"}})
	if w.Code != http.StatusBadRequest {
		t.Error(w.Code)
	}
}

func TestTargetsOfRequestsWithABodyKeepTheirBytes(t *testing.T) {
	for target, want := range map[string]string{
		"/a//b|c%2F?;|=%zz": "", "//evil.test/x?y": "", "///": "", "//a%2Fb?": "", "/?": "", "*": "",
		"//a%2Fb|c\"?|": "//a%2Fb%7Cc%22?|", // a bare | is not valid there
	} {
		if want == "" {
			want = target
		}
		u := url.URL{Scheme: "http", Host: "up"}
		setTarget(&u, target)
		if got := u.RequestURI(); got != want {
			t.Errorf("%s became %s", target, got)
		}
	}
}

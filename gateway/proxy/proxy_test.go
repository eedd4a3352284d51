package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

// front serves a proxy to the upstream address on loopback and returns its
// address.
func front(t testing.TB, upstream string, change func(*Options)) string {
	t.Helper()
	return frontHandler(t, newProxy(t, upstream, change), 0)
}

func newProxy(t testing.TB, upstream string, change func(*Options)) *Proxy {
	t.Helper()
	site, err := gateway.ParseWwwroot("https://moodle.test")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Upstream: &url.URL{Scheme: "http", Host: strings.TrimPrefix(upstream, "http://")},
		Site:     site,
		ErrorPage: func(w http.ResponseWriter, _ *http.Request, status int, err error) {
			w.WriteHeader(status)
			fmt.Fprintf(w, "our page: %v", err)
		},
	}
	if change != nil {
		change(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.CloseIdle)
	return p
}

func frontHandler(t testing.TB, h http.Handler, limit time.Duration) string {
	t.Helper()
	l, err := Listen(t.Context(), "127.0.0.1:0", limit)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(h, slog.New(slog.DiscardHandler))
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

func upstream(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// rawUpstream answers each connection with serve, which owns it.
func rawUpstream(t testing.TB, serve func(net.Conn, *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			}()
		}
	}()
	return l.Addr().String()
}

// readHead reads a request or response head, without the empty line.
func readHead(r *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == "\r\n" {
			return head.String(), err
		}
		head.WriteString(line)
	}
}

// dial connects to address for at most 20 seconds of test.
func dial(t testing.TB, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c, bufio.NewReader(c)
}

// exchangeRaw sends request and returns the response, body read.
func exchangeRaw(t testing.TB, address, request string) (*http.Response, string) {
	t.Helper()
	c, r := dial(t, address)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestOptionsThatMakeNoProxyAreRefused(t *testing.T) {
	site, _ := gateway.ParseWwwroot("https://moodle.test")
	for _, upstream := range []string{"", "moodle:80", "ftp://moodle", "http://", "http://moodle/path", "http://moodle/?q=1", "http://u:p@moodle"} {
		u, _ := url.Parse(upstream)
		if _, err := New(Options{Upstream: u, Site: site}); err == nil {
			t.Errorf("upstream %q makes a proxy", upstream)
		} else if strings.Contains(err.Error(), ":p@") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	if _, err := New(Options{Upstream: &url.URL{Scheme: "http", Host: "moodle"}}); err == nil {
		t.Error("no site makes a proxy")
	}
}

func TestRequestTargetsReachTheUpstreamAsTheyCame(t *testing.T) {
	var got atomic.Value
	up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		head, err := readHead(r)
		if err != nil {
			return
		}
		target := strings.Fields(head)[1]
		got.Store(target)
		io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	})
	address := front(t, up, nil)
	tests := []struct{ target, want string }{
		{"/", ""},
		{"/mod/forum/discuss.php?d=1&parent=2", ""},
		{"/a//b/./c/../d", ""},
		{"/a%2Fb%2fc%5C%00", ""},
		{"/;a=b;c?x;y&&=&a=%zz&%", ""},
		{"/pluginfile.php/1/x/%C3%A4%20ö|\"<>^`{}[].pdf?ö|\"<>", ""},
		{"/?", ""},
		{"/?a=?b?c", ""},
		{"/index.php?url=https://tool.test//x", ""},
		{"//evil.test/x?y=1", ""},
		{"//a%2Fb?", ""},
		{"///", ""},
		{"//a%2Fb|c?|", ""},
		{"http://moodle.test/x%2Fy?z", "/x%2Fy?z"},
		{"/?" + strings.Repeat("q", 64<<10), ""},
	}
	for _, tt := range tests {
		if tt.want == "" {
			tt.want = tt.target
		}
		res, body := exchangeRaw(t, address, "GET "+tt.target+" HTTP/1.1\r\nHost: moodle.test\r\nConnection: close\r\n\r\n")
		if res.StatusCode != http.StatusNoContent {
			t.Errorf("%.80s: status %d: %s", tt.target, res.StatusCode, body)
		} else if got.Load() != tt.want {
			t.Errorf("%.80s arrived as %.80s, want %.80s", tt.target, got.Load(), tt.want)
		}
	}
}

func TestRequestTargetsThatAreNoPathAreRefused(t *testing.T) {
	up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		head, _ := readHead(r)
		t.Errorf("the upstream got %q", head)
	})
	address := front(t, up, nil)
	for _, target := range []string{"x:http://moodle.test/x", "mailto:x@moodle.test", "/x#y", "/x?y#", "http://moodle.test/x#"} {
		for _, method := range []string{"GET", "POST"} {
			res, _ := exchangeRaw(t, address, method+" "+target+" HTTP/1.1\r\nHost: moodle.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			if res.StatusCode != http.StatusBadRequest {
				t.Errorf("%s %s: status %d", method, target, res.StatusCode)
			}
		}
	}
}

func TestResponsesPassUnchanged(t *testing.T) {
	tests := []struct{ name, method, response, wantBody string }{
		{"with a length", "GET", "200 OK\r\nContent-Length: 5\r\nContent-Type: text/html\r\n\r\nhello", "hello"},
		{"without a content type", "GET", "200 OK\r\nContent-Length: 6\r\n\r\n<html>", "<html>"},
		{"chunked", "GET", "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "hello"},
		{"until the end of the connection", "GET", "200 OK\r\nConnection: close\r\n\r\nhello", "hello"},
		{"compressed", "GET", "200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x00", "\x1f\x8b\x00"},
		{"HEAD keeps the length", "HEAD", "200 OK\r\nContent-Length: 12345\r\n\r\n", ""},
		{"no content", "GET", "204 No Content\r\nX-A: b\r\n\r\n", ""},
		{"not modified", "GET", "304 Not Modified\r\nEtag: \"x\"\r\n\r\n", ""},
		{"a part", "GET", "206 Partial Content\r\nContent-Range: bytes 2-3/10\r\nContent-Length: 2\r\n\r\nll", "ll"},
		{"a redirect with cookies", "GET", "303 See Other\r\nLocation: /x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n", ""},
		{"an error", "GET", "500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops", "oops"},
		{"a status of its own", "GET", "599 Odd\r\nContent-Length: 0\r\n\r\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
				if _, err := readHead(r); err == nil {
					io.WriteString(c, "HTTP/1.1 "+tt.response)
				}
			})
			want, err := http.ReadResponse(bufio.NewReader(strings.NewReader("HTTP/1.1 "+tt.response)), &http.Request{Method: tt.method})
			if err != nil {
				t.Fatal(err)
			}
			res, body := exchangeRaw(t, front(t, up, nil), tt.method+" / HTTP/1.1\r\nHost: moodle.test\r\n\r\n")
			res.Header.Del("Date")
			want.Header.Del("Connection")
			if want.ContentLength < 0 {
				res.Header.Del("Content-Length") // of a short body it is known in the end
			}
			if diff := cmp.Diff(want.Header, res.Header); diff != "" || res.StatusCode != want.StatusCode || body != tt.wantBody {
				t.Errorf("status %d, body %q, header (-want +got):\n%s", res.StatusCode, body, diff)
			}
			if want.ContentLength >= 0 && res.ContentLength != want.ContentLength {
				t.Errorf("length %d, want %d", res.ContentLength, want.ContentLength)
			}
		})
	}
}

func TestRangeReachesTheUpstream(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "x.txt", time.Time{}, strings.NewReader("0123456789"))
	})
	res, body := exchangeRaw(t, front(t, up, nil), "GET / HTTP/1.1\r\nHost: moodle.test\r\nRange: bytes=3-5\r\n\r\n")
	if res.StatusCode != http.StatusPartialContent || body != "345" {
		t.Errorf("status %d, body %q", res.StatusCode, body)
	}
}

func TestUnansweredRequestsGetOurPage(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	silent := rawUpstream(t, func(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
	garbage := rawUpstream(t, func(c net.Conn, r *bufio.Reader) { io.WriteString(c, "SSH-2.0-x\r\n\r\n") })
	big := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 2<<20)+"\r\n\r\n")
	})
	tests := []struct {
		name, upstream, request string
		want                    int
	}{
		{"an upstream that is down", closed.Addr().String(), "GET / HTTP/1.1\r\nHost: m\r\n\r\n", 502},
		{"an upstream that is down, a body waits", closed.Addr().String(), "POST / HTTP/1.1\r\nHost: m\r\nContent-Length: 3\r\n\r\nabc", 502},
		{"an upstream that is late", silent, "GET / HTTP/1.1\r\nHost: m\r\n\r\n", 504},
		{"an upstream that speaks something else", garbage, "GET / HTTP/1.1\r\nHost: m\r\n\r\n", 502},
		{"a response header without end", big, "GET / HTTP/1.1\r\nHost: m\r\n\r\n", 502},
		{"CONNECT", silent, "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n", 405},
		{"TRACE", silent, "TRACE / HTTP/1.1\r\nHost: m\r\n\r\n", 405},
		{"a body that breaks its chunks", silent, "POST / HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			address := front(t, tt.upstream, func(o *Options) { o.ResponseHeaderTimeout = 100 * time.Millisecond })
			res, body := exchangeRaw(t, address, tt.request)
			if res.StatusCode != tt.want || !strings.HasPrefix(body, "our page: ") {
				t.Errorf("status %d, want %d; %s", res.StatusCode, tt.want, body)
			}
		})
	}
}

func TestBodiesLimitedByTheCallerAreA413(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	p := newProxy(t, up, nil)
	address := frontHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 10)
		p.ServeHTTP(w, r)
	}), 0)
	res, _ := exchangeRaw(t, address, "POST / HTTP/1.1\r\nHost: m\r\nContent-Length: 20\r\n\r\n"+strings.Repeat("x", 20))
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestAResponseCutByTheUpstreamIsCutForTheClient(t *testing.T) {
	for _, head := range []string{"Content-Length: 100000", "Transfer-Encoding: chunked"} {
		up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := readHead(r); err == nil {
				io.WriteString(c, "HTTP/1.1 200 OK\r\n"+head+"\r\n\r\n5000\r\n"+strings.Repeat("x", 0x4000))
			}
		})
		c, r := dial(t, front(t, up, nil))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: m\r\n\r\n")
		res, err := http.ReadResponse(r, nil)
		if err == nil {
			_, err = io.ReadAll(res.Body)
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v, want an unexpected end", head, err)
		}
	}
}

func TestAClientThatGoesAwayCancelsTheRequest(t *testing.T) {
	arrived, cancelled := make(chan bool), make(chan bool)
	up := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(cancelled)
	})
	c, _ := dial(t, front(t, up, nil))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: m\r\n\r\n")
	<-arrived
	c.Close()
	select {
	case <-cancelled:
	case <-time.After(10 * time.Second):
		t.Fatal("the upstream still works for nobody")
	}
}

// An upstream that closes its idle connections, as at a restart, must cost no
// GET, and no POST may be sent twice.
func TestOnlyRequestsThatMayBeRepeatedAreRepeated(t *testing.T) {
	tests := []struct {
		request string
		want    int
		sent    int32 // how often the upstream sees the second request
	}{
		{"GET /second HTTP/1.1\r\nHost: m\r\n\r\n", 200, 2},
		{"POST /second HTTP/1.1\r\nHost: m\r\nContent-Length: 3\r\n\r\nabc", 502, 1},
		{"POST /second HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n\r\n", 502, 1},
	}
	for _, tt := range tests {
		t.Run(tt.request[:4], func(t *testing.T) {
			var connections, seen atomic.Int32
			up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
				first := connections.Add(1) == 1
				for {
					head, err := readHead(r)
					if err != nil {
						return
					}
					if strings.Contains(head, "Content-Length: 3") {
						_, _ = r.Discard(3)
					}
					if strings.Contains(head, "/second") {
						seen.Add(1)
						if first {
							return // closes without an answer
						}
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			address := front(t, up, nil)
			first := strings.Replace(tt.request, "/second", "/first", 1)
			if res, body := exchangeRaw(t, address, first); res.StatusCode != 200 {
				t.Fatal(res.Status, body)
			}
			res, body := exchangeRaw(t, address, tt.request)
			if res.StatusCode != tt.want || seen.Load() != tt.sent {
				t.Errorf("status %d (%s), sent %d times; want %d and %d", res.StatusCode, body, seen.Load(), tt.want, tt.sent)
			}
		})
	}
}

func TestConnectionsToTheUpstreamAreReused(t *testing.T) {
	var connections atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		io.WriteString(w, strings.Repeat("x", 20<<10))
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	p := newProxy(t, s.URL, nil)
	own := func(w http.ResponseWriter, _ *http.Request, _ *http.Response) bool {
		w.WriteHeader(http.StatusTeapot)
		return true
	}
	address := frontHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.Serve(w, r, own) }), 0)
	for range 5 {
		if res, _ := exchangeRaw(t, address, "POST / HTTP/1.1\r\nHost: m\r\nContent-Length: 3\r\n\r\nabc"); res.StatusCode != http.StatusTeapot {
			t.Fatal(res.Status)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for requests in a row, want 1", n)
	}
}

func TestInspectSeesAndChangesTheResponse(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "MoodleSession=new; path=/")
		w.Header().Add("Set-Cookie", "Jumpgate-id=stolen; path=/")
		w.Header().Set("Location", "/my/")
		w.WriteHeader(http.StatusSeeOther)
	})
	tests := []struct {
		name       string
		inspect    Inspect
		status     int
		location   string
		setCookies []string
	}{
		{"nothing", func(http.ResponseWriter, *http.Request, *http.Response) bool { return false },
			303, "/my/", []string{"MoodleSession=new; path=/"}},
		{"a header changed", func(_ http.ResponseWriter, _ *http.Request, res *http.Response) bool {
			res.Header.Set("Location", "/other")
			return false
		}, 303, "/other", []string{"MoodleSession=new; path=/"}},
		{"a cookie of the caller's", func(w http.ResponseWriter, _ *http.Request, res *http.Response) bool {
			w.Header().Add("Set-Cookie", "jumpgate-id=ours")
			return false
		}, 303, "/my/", []string{"jumpgate-id=ours", "MoodleSession=new; path=/"}},
		{"an answer of the caller's", func(w http.ResponseWriter, _ *http.Request, res *http.Response) bool {
			w.Header()["Set-Cookie"] = res.Header["Set-Cookie"]
			w.Header().Set("Location", "https://sp.test/land")
			w.WriteHeader(http.StatusFound)
			return true
		}, 302, "https://sp.test/land", []string{"MoodleSession=new; path=/"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newProxy(t, up, nil)
			address := frontHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.Serve(w, r, tt.inspect) }), 0)
			res, _ := exchangeRaw(t, address, "GET / HTTP/1.1\r\nHost: m\r\n\r\n")
			if res.StatusCode != tt.status || res.Header.Get("Location") != tt.location {
				t.Errorf("status %d, location %q", res.StatusCode, res.Header.Get("Location"))
			}
			if diff := cmp.Diff(tt.setCookies, res.Header["Set-Cookie"]); diff != "" {
				t.Errorf("cookies (-want +got):\n%s", diff)
			}
		})
	}
}

// A caller's answer must not wait for an upstream that does not end its own.
func TestDrainingIsShort(t *testing.T) {
	done := make(chan bool)
	r, w := io.Pipe()
	go func() {
		drain(r)
		close(done)
	}()
	_, _ = w.Write(bytes.Repeat([]byte("x"), 1000))
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("still draining")
	}
}

func TestAFinishedContextEndsTheRequest(t *testing.T) {
	silent := rawUpstream(t, func(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
	p := newProxy(t, silent, nil)
	address := frontHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 50*time.Millisecond)
		defer cancel()
		p.ServeHTTP(w, r.WithContext(ctx))
	}), 0)
	res, body := exchangeRaw(t, address, "GET / HTTP/1.1\r\nHost: m\r\n\r\n")
	if res.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("status %d: %s", res.StatusCode, body)
	}
}

func TestTheLastLookIsAtEveryResponseThatPasses(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen", "upstream")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "upstream")
	})
	var looks, early int
	p := newProxy(t, up, func(o *Options) {
		o.Last = func(w http.ResponseWriter, r *http.Request, res *http.Response) bool {
			if looks++; res.StatusCode != http.StatusOK || res.Header.Get("X-Seen") == "" {
				early++
			}
			if r.URL.Path != "/stop" {
				return false
			}
			http.Error(w, "stopped", http.StatusTeapot)
			return true
		}
	})
	answering := func(answers bool) Inspect {
		return func(w http.ResponseWriter, _ *http.Request, _ *http.Response) bool {
			if answers {
				io.WriteString(w, "inspected")
			}
			return answers
		}
	}
	for _, test := range []struct {
		method, path string
		inspect      Inspect
		looks        int
		want         string
	}{
		{"GET", "/", nil, 1, "upstream"},
		{"POST", "/", nil, 1, "upstream"},
		{"GET", "/", answering(false), 1, "upstream"},
		{"GET", "/stop", answering(false), 1, "stopped\n"},
		{"POST", "/stop", nil, 1, "stopped\n"},
		{"GET", "/stop", answering(true), 0, "inspected"},
	} {
		looks = 0
		address := frontHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.Serve(w, r, test.inspect) }), 0)
		_, body := exchangeFinal(t, address, test.method+" "+test.path+" HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n\r\n")
		if body != test.want || looks != test.looks || early != 0 {
			t.Errorf("%s %s: %d looks (%d too early), %q", test.method, test.path, looks, early, body)
		}
	}
}

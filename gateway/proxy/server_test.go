package proxy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// protocols returns clients for every protocol that a server of ours speaks.
func protocols(t *testing.T, h http.Handler) map[string]func(path string) (string, *http.Client) {
	t.Helper()
	clear := frontHandler(t, h, 0)
	l, err := Listen(t.Context(), "127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	lender := httptest.NewUnstartedServer(nil) // has a certificate
	lender.StartTLS()
	t.Cleanup(lender.Close)
	s := NewServer(h, slog.New(slog.DiscardHandler))
	s.TLSConfig = &tls.Config{Certificates: lender.TLS.Certificates}
	go s.ServeTLS(l, "", "")
	t.Cleanup(func() { s.Close() })
	secure := l.Addr().String()

	client := func(set func(*http.Protocols)) *http.Client {
		tr := &http.Transport{
			TLSClientConfig: lender.Client().Transport.(*http.Transport).TLSClientConfig.Clone(),
			Protocols:       new(http.Protocols),
		}
		set(tr.Protocols)
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr, Timeout: 20 * time.Second}
	}
	h1 := client(func(p *http.Protocols) { p.SetHTTP1(true) })
	h2 := client(func(p *http.Protocols) { p.SetHTTP2(true) })
	h2c := client(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	return map[string]func(string) (string, *http.Client){
		"HTTP/1.1":         func(path string) (string, *http.Client) { return "http://" + clear + path, h1 },
		"HTTP/1.1 and TLS": func(path string) (string, *http.Client) { return "https://" + secure + path, h1 },
		"HTTP/2 and TLS":   func(path string) (string, *http.Client) { return "https://" + secure + path, h2 },
		"HTTP/2":           func(path string) (string, *http.Client) { return "http://" + clear + path, h2c },
	}
}

func TestEveryProtocolPassesThrough(t *testing.T) {
	const size = 3 << 20
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/cut":
			w.Header().Set("Content-Length", "100000")
			io.WriteString(w, "the rest is missing")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/down":
			_, _ = io.CopyN(w, pattern{}, size)
		case "/up":
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, err)
		default:
			w.Header().Set("Trailer", "X-End")
			fmt.Fprint(w, r.Proto, " ", r.Host, " ", r.RequestURI, " ", r.Header["X-Forwarded-For"], r.Header["Cookie"])
			w.Header().Set("X-End", "yes")
		}
	})
	p := newProxy(t, up, nil)
	seen := make(chan string, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case seen <- r.Proto:
		default:
		}
		p.ServeHTTP(w, r)
	})
	for name, target := range protocols(t, handler) {
		t.Run(name, func(t *testing.T) {
			do := func(method, path string, body io.Reader) (*http.Response, string, error) {
				url, client := target(path)
				req, err := http.NewRequest(method, url, body)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = "moodle.test"
				req.Header.Set("X-Forwarded-For", "6.6.6.6")
				req.AddCookie(&http.Cookie{Name: "a", Value: "1"})
				req.AddCookie(&http.Cookie{Name: "jumpgate-s", Value: "2"})
				res, err := client.Do(req)
				if err != nil {
					return nil, "", err
				}
				defer res.Body.Close()
				b, err := io.ReadAll(res.Body)
				return res, string(b), err
			}
			res, body, err := do("GET", "/x%2Fy//z?a;b=%zz", nil)
			if want := "HTTP/1.1 moodle.test /x%2Fy//z?a;b=%zz [127.0.0.1] [a=1]"; err != nil || body != want || res.Trailer.Get("X-End") != "yes" {
				t.Errorf("%q, %v, want %q; trailer %v", body, err, want, res.Trailer)
			}
			if proto := <-seen; !strings.HasPrefix(name, strings.TrimSuffix(proto, ".0")) {
				t.Errorf("the client spoke %s", proto)
			}
			if _, body, err = do("GET", "/down", nil); len(body) != size || err != nil {
				t.Errorf("downloaded %d bytes, %v", len(body), err)
			}
			if _, body, err = do("POST", "/up", io.LimitReader(pattern{}, size)); body != fmt.Sprint(size, nil) || err != nil {
				t.Errorf("uploaded %q, %v", body, err)
			}
			if _, _, err = do("GET", "/cut", nil); err == nil {
				t.Error("a cut response looks whole")
			}
			select {
			case <-seen:
			default:
			}
		})
	}
}

func TestRequestsThatTwoServersMayReadDifferentlyAreRefusedOrMadePlain(t *testing.T) {
	var requests atomic.Int32
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d %s", r.URL.Path, r.ContentLength, body)
	})
	address := front(t, up, nil)
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: m\r\n\r\n"
	tests := []struct {
		name, request string
		status        int
		body          string
	}{
		{"two hosts", "GET / HTTP/1.1\r\nHost: m\r\nHost: evil.test\r\n\r\n", 400, ""},
		{"no host", "GET / HTTP/1.1\r\n\r\n", 400, ""},
		{"a host with odd bytes", "GET / HTTP/1.1\r\nHost: m{}\r\n\r\n", 400, ""},
		{"two lengths", "POST / HTTP/1.1\r\nHost: m\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\n" + smuggled, 400, ""},
		{"a signed length", "POST / HTTP/1.1\r\nHost: m\r\nContent-Length: +5\r\n\r\nabcde", 400, ""},
		{"an odd coding", "POST / HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, ""},
		{"two codings", "POST / HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 501, ""},
		{"a blank before the colon", "GET / HTTP/1.1\r\nHost: m\r\nX-A : b\r\n\r\n", 400, ""},
		{"a folded line", "GET / HTTP/1.1\r\nHost: m\r\n X-A: b\r\n\r\n", 400, ""},
		{"a null byte", "GET / HTTP/1.1\r\nHost: m\r\nX-A: \x00\r\n\r\n", 400, ""},
		// The coding wins (RFC 9112, section 6.3) and the upstream gets only it.
		{"a length and a coding", "POST /p HTTP/1.1\r\nHost: m\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + smuggled, 200, "/p -1 abc"},
		{"a length spelled for CGI", "POST /p HTTP/1.1\r\nHost: m\r\nContent_Length: 0\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", 200, "/p 3 abc"},
		{"a GET with a body", "GET /p HTTP/1.1\r\nHost: m\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", 200, "/p 3 abc"},
	}
	for _, tt := range tests {
		requests.Store(0)
		res, body := exchangeRaw(t, address, tt.request)
		want := int32(0)
		if tt.status == 200 {
			want = 1
		}
		if res.StatusCode != tt.status || tt.body != "" && body != tt.body || requests.Load() != want {
			t.Errorf("%s: status %d, body %q, %d requests at the upstream", tt.name, res.StatusCode, body, requests.Load())
		}
	}
}

func TestHeadersMayBeLongButNotEndless(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, len(r.URL.RawQuery)) })
	address := front(t, up, nil)
	if res, body := exchangeRaw(t, address, "GET /?"+strings.Repeat("q", 64<<10)+" HTTP/1.1\r\nHost: m\r\n\r\n"); res.StatusCode != 200 || body != "65536" {
		t.Errorf("a query of 64 KB: %d %q", res.StatusCode, body)
	}
	c, r := dial(t, address)
	go io.Copy(c, io.MultiReader(strings.NewReader("GET / HTTP/1.1\r\nHost: m\r\nX-A: "), io.LimitReader(xs{}, 1<<20)))
	if head, err := readHead(r); !strings.HasPrefix(head, "HTTP/1.1 431 ") {
		t.Errorf("%q, %v", head, err)
	}
}

type xs struct{}

func (xs) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestABodyThatStopsComingIsA408(t *testing.T) {
	up := upstream(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	p := newProxy(t, up, func(o *Options) { o.ProgressTimeout = 100 * time.Millisecond })
	for name, target := range protocols(t, p) {
		t.Run(name, func(t *testing.T) {
			stalled, stop := io.Pipe()
			defer stop.Close()
			defer time.AfterFunc(10*time.Second, func() { stop.Close() }).Stop()
			go stop.Write([]byte("a beginning"))
			url, client := target("/")
			req, _ := http.NewRequest(http.MethodPost, url, stalled)
			req.ContentLength = 1000
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusRequestTimeout {
				t.Errorf("status %d", res.StatusCode)
			}
		})
	}
}

// A body that comes slowly but comes is read to its end, and the time it took
// is not counted against the response.
func TestASlowBodyIsNotCut(t *testing.T) {
	const limit = time.Second // for machines that are busy
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		time.Sleep(2 * limit)
		fmt.Fprint(w, n)
	})
	p := newProxy(t, up, func(o *Options) { o.ProgressTimeout = limit })
	for name, target := range protocols(t, p) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			left := 8
			url, client := target("/")
			req, _ := http.NewRequest(http.MethodPost, url, readerFunc(func(b []byte) (int, error) {
				if left == 0 {
					return 0, io.EOF
				}
				left--
				time.Sleep(limit / 4)
				b[0] = 'x'
				return 1, nil
			}))
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if body, err := io.ReadAll(res.Body); string(body) != "8" || err != nil {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
}

// A client that stops reading must not hold the upstream for ever.
func TestAClientThatStopsReadingIsLeft(t *testing.T) {
	const limit = 100 * time.Millisecond
	for _, proto := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(proto, func(t *testing.T) {
			gone := make(chan bool)
			up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
				defer close(gone)
				_, _ = io.Copy(w, pattern{})
			})
			p := newProxy(t, up, func(o *Options) { o.ProgressTimeout = limit })
			address := frontHandler(t, p, limit)
			tr := &http.Transport{Protocols: new(http.Protocols)}
			tr.Protocols.SetHTTP1(proto == "HTTP/1.1")
			tr.Protocols.SetUnencryptedHTTP2(proto == "HTTP/2")
			defer tr.CloseIdleConnections()
			res, err := (&http.Client{Transport: tr}).Get("http://" + address)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			select {
			case <-gone:
			case <-time.After(20 * time.Second):
				t.Fatal("the upstream still sends")
			}
		})
	}
}

// A client that reads slowly but reads gets everything.
func TestASlowReaderIsNotCut(t *testing.T) {
	const limit, size = 200 * time.Millisecond, 12 << 20
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = io.CopyN(w, pattern{}, size)
	})
	c, _ := dial(t, frontHandler(t, newProxy(t, up, nil), limit))
	_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
	total, begun := 0, time.Now()
	buf := make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(c, buf)
		total += n
		if err != nil {
			break
		}
		time.Sleep(limit / 4)
	}
	if total < size || time.Since(begun) < 2*limit {
		t.Errorf("%d bytes in %v", total, time.Since(begun))
	}
}

func TestAConnectionKeepsADeadlineThatSomebodySets(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, _ = dial(t, l.Addr().String())
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	write := func() error {
		_, err := c.Write([]byte("x"))
		return err
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	_ = c.SetWriteDeadline(time.Unix(1, 0))
	var timeout net.Error
	if err := write(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v, want a timeout", err)
	}
	_ = c.SetDeadline(time.Time{})
	if err := write(); err != nil {
		t.Errorf("after the deadline was taken away: %v", err)
	}
	if err := c.(*conn).CloseWrite(); err != nil {
		t.Error(err)
	}
}

func TestASilentClientIsClosed(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout == 0 || s.IdleTimeout == 0 {
		t.Error("no limits")
	}
	s.ReadHeaderTimeout, s.IdleTimeout = 50*time.Millisecond, 50*time.Millisecond
	go s.Serve(l)
	defer s.Close()
	for _, sent := range []string{"", "GET / HT", "GET / HTTP/1.1\r\nHost: m\r\n\r\n"} {
		c, r := dial(t, l.Addr().String())
		io.WriteString(c, sent)
		if _, err := io.Copy(io.Discard, bufio.NewReader(r)); err != nil {
			t.Errorf("after %q: %v", sent, err)
		}
	}
}

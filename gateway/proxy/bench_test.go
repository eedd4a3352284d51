package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"testing"

	"jumpgate/gateway"
)

// What a browser sends with a page of a Moodle.
const browserHeader = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Referer: https://moodle.test/course/view.php?id=2\r\nUpgrade-Insecure-Requests: 1\r\n" +
	"Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\n" +
	"Cookie: MoodleSession=abcdefghijklmnopqrstuvwxyz; MOODLEID1_=%25E5%25DF\r\n"

func BenchmarkProxy(b *testing.B) {
	for _, size := range []int{2 << 10, 21 << 10, 10 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			benchmark(b, size, func(u *url.URL) http.Handler {
				site, _ := gateway.ParseWwwroot("https://moodle.test")
				p, err := New(Options{Upstream: u, Site: site, RequestID: func(*http.Request) string { return "0123456789abcdef" }})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(p.CloseIdle)
				return p
			})
		})
	}
}

// BenchmarkReverseProxy is what BenchmarkProxy is compared with: net/http's
// own proxy with the same transport and pooled buffers.
func BenchmarkReverseProxy(b *testing.B) {
	for _, size := range []int{2 << 10, 21 << 10, 10 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			benchmark(b, size, func(u *url.URL) http.Handler {
				transport := newTransport(Options{})
				b.Cleanup(transport.CloseIdleConnections)
				return &httputil.ReverseProxy{
					Transport:  transport,
					BufferPool: pooledSlices{},
					Rewrite: func(r *httputil.ProxyRequest) {
						r.SetURL(u)
						r.Out.Host = r.In.Host
						r.SetXForwarded()
					},
				}
			})
		})
	}
}

type pooledSlices struct{}

func (pooledSlices) Get() []byte  { return buffers.Get().(*[readBuffer]byte)[:] }
func (pooledSlices) Put(b []byte) { buffers.Put((*[readBuffer]byte)(b)) }

func benchmark(b *testing.B, size int, handler func(*url.URL) http.Handler) {
	body := bytes.Repeat([]byte("x"), size)
	length := strconv.Itoa(size)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Length", length)
		_, _ = w.Write(body)
	}))
	defer upstream.Close()
	u, _ := url.Parse(upstream.URL)
	l, err := Listen(b.Context(), "127.0.0.1:0", 0)
	if err != nil {
		b.Fatal(err)
	}
	server := NewServer(handler(u), slog.New(slog.DiscardHandler))
	go server.Serve(l)
	defer server.Close()

	request := []byte("GET /mod/forum/discuss.php?d=12&parent=34 HTTP/1.1\r\nHost: moodle.test\r\n" + browserHeader + "\r\n")
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		in := bufio.NewReaderSize(c, 64<<10)
		for pb.Next() {
			if _, err := c.Write(request); err != nil {
				b.Error(err)
				return
			}
			for line := []byte("."); len(line) > 0; {
				if line, _, err = in.ReadLine(); err != nil {
					b.Error(err)
					return
				}
			}
			if _, err := io.CopyN(io.Discard, in, int64(size)); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkRequestHeader(b *testing.B) {
	site, _ := gateway.ParseWwwroot("https://moodle.test")
	p, err := New(Options{Upstream: &url.URL{Scheme: "http", Host: "127.0.0.1"}, Site: site})
	if err != nil {
		b.Fatal(err)
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader([]byte("GET / HTTP/1.1\r\nHost: moodle.test\r\n" + browserHeader + "\r\n"))))
	if err != nil {
		b.Fatal(err)
	}
	r.RemoteAddr = "192.0.2.1:4321"
	b.ReportAllocs()
	for b.Loop() {
		p.requestHeader(r, "")
	}
}

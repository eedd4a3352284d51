package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
	"jumpgate/gateway/proxy"
)

// server is one of the small servers of the comparison, by name.
func server(what string, args []string) error {
	address := args[0]
	switch what {
	case "upstream":
		return static(address)
	case "reverseproxy":
		return http.ListenAndServe(address, reverseProxy(args[1]))
	case "proxy":
		site, err := gateway.ParseWwwroot("http://" + address)
		if err != nil {
			return err
		}
		p, err := proxy.New(proxy.Options{Upstream: &url.URL{Scheme: "http", Host: args[1]}, Site: site,
			RequestID: func(*http.Request) string { return rand.Text() }})
		if err != nil {
			return err
		}
		l, err := proxy.Listen(context.Background(), address, 0)
		if err != nil {
			return err
		}
		return proxy.NewServer(p, slog.New(slog.NewTextHandler(os.Stderr, nil))).Serve(l)
	case "pipeline":
		return http.ListenAndServe(address, pipeline(args[1]))
	}
	return fmt.Errorf("no server %q", what)
}

// reverseProxy is net/http's own, tuned as far as its knobs go: connections
// and buffers are reused, and the read buffer is that of the gateway.
func reverseProxy(upstream string) http.Handler {
	target := &url.URL{Scheme: "http", Host: upstream}
	return &httputil.ReverseProxy{
		Transport:  &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true, ReadBufferSize: 32 << 10},
		BufferPool: &bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
	}
}

type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte  { return p.pool.Get().(*[32 << 10]byte)[:] }
func (p *bufferPool) Put(b []byte) { p.pool.Put((*[32 << 10]byte)(b)) }

// pipeline is the least that a jump could cost: one round trip to Redis that
// reads a session and writes a token, and a redirect.
func pipeline(address string) http.Handler {
	client := redis.NewClient(&redis.Options{Addr: address})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie("MoodleSession")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		token, query := rand.Text(), r.URL.Query()
		pipe := client.Pipeline()
		pipe.HMGet(r.Context(), sessionPrefix+"session_"+cookie.Value, "userid", "state", "timemodified", "sessdata")
		pipe.Set(r.Context(), "bare:"+token, query.Get("wantsurl"), 30*time.Second)
		if _, err := pipe.Exec(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		http.Redirect(w, r, query.Get("hostwwwroot")+"/auth/mnet/land.php?token="+token+
			"&wantsurl="+url.QueryEscape(query.Get("wantsurl")), http.StatusSeeOther)
	})
}

// static answers /2k, /21k and /10m, as cheaply as Go can.
func static(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	answers := map[string][]byte{}
	for path, size := range map[string]int{"/2k": 2 << 10, "/21k": 21 << 10, "/10m": 10 << 20} {
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: Apache\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\n"+
			"Cache-Control: private, pre-check=0, post-check=0, max-age=0, no-transform\r\nContent-Language: en\r\n"+
			"Content-Script-Type: text/javascript\r\nX-Frame-Options: sameorigin\r\nContent-Length: %d\r\n\r\n", size)
		answers[path] = append([]byte(head), bytes.Repeat([]byte("x"), size)...)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			in := bufio.NewReader(c)
			var answer []byte
			for {
				line, err := in.ReadSlice('\n')
				switch {
				case err != nil:
					return
				case bytes.HasPrefix(line, []byte("GET ")):
					answer = answers[strings.Fields(string(line))[1]]
				case len(line) == 2:
					if _, err := c.Write(answer); err != nil || answer == nil {
						return
					}
				}
			}
		}()
	}
}

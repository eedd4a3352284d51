package moodletest

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Journey counts the redirects that browsers follow from page to page, over
// all the sites that it watches. A browser is an address and a User-Agent, so
// two windows of one browser that travel at the same time are counted as one
// journey: good enough for a demo. The zero Journey is ready for use.
type Journey struct {
	mu      sync.Mutex
	clients map[string]*travels
}

// travels are the redirects of one browser since its last page.
type travels struct {
	legs []leg
	last time.Time
}

type leg struct {
	site string
	n    int
}

const (
	maxTravellers = 1024
	maxTravelTime = 15 * time.Minute // as long as a jump is remembered
)

// Watch returns h with its redirects counted under the name site.
func (j *Journey) Watch(site string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !navigation(r) {
			h.ServeHTTP(w, r)
			return
		}
		recorder := &statusRecorder{ResponseWriter: w}
		recorder.seen = func(status int) { j.note(site, r, status, recorder.Header()) }
		h.ServeHTTP(recorder, r)
	})
}

// navigation reports whether the request may bring a page to a browser's
// window. Browsers say so; programs like curl say nothing.
func navigation(r *http.Request) bool {
	dest := r.Header.Get("Sec-Fetch-Dest")
	return (dest == "" || dest == "document") && r.Header.Get("Purpose") == "" && r.Header.Get("Sec-Purpose") == ""
}

// note runs before the first byte of an answer leaves, so that the next
// request of the browser finds the count complete.
func (j *Journey) note(site string, r *http.Request, status int, h http.Header) {
	redirect := status >= 300 && status < 400 && h.Get("Location") != ""
	page := !redirect && status != http.StatusNotModified && strings.HasPrefix(h.Get("Content-Type"), "text/html")
	if !redirect && !page {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	key, now := clientKey(r), time.Now()
	t := j.clients[key]
	switch {
	case page:
		delete(j.clients, key)
		return
	case t == nil || now.Sub(t.last) > maxTravelTime:
		t = &travels{}
		j.insert(key, t)
	}
	t.last = now
	for i := range t.legs {
		if t.legs[i].site == site {
			t.legs[i].n++
			return
		}
	}
	t.legs = append(t.legs, leg{site, 1})
}

// insert makes room by forgetting who has not moved for the longest time.
func (j *Journey) insert(key string, t *travels) {
	if j.clients == nil {
		j.clients = map[string]*travels{}
	}
	if len(j.clients) >= maxTravellers {
		var oldest string
		for k, other := range j.clients {
			if oldest == "" || other.last.Before(j.clients[oldest].last) {
				oldest = k
			}
		}
		delete(j.clients, oldest)
	}
	j.clients[key] = t
}

// Redirects says in a sentence how many redirects led to the page that r asks
// for: "2 redirects: 1 from home, 1 from the forum." It fits
// ForumOptions.Redirects.
func (j *Journey) Redirects(r *http.Request) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.clients[clientKey(r)]
	if t == nil || time.Since(t.last) > maxTravelTime {
		return "No redirects: you came straight to this page."
	}
	total, parts := 0, make([]string, 0, len(t.legs))
	for _, l := range t.legs {
		total += l.n
		parts = append(parts, fmt.Sprintf("%d from %s", l.n, l.site))
	}
	noun := "redirects"
	if total == 1 {
		noun = "redirect"
	}
	return fmt.Sprintf("%d %s: %s.", total, noun, strings.Join(parts, ", "))
}

func clientKey(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		host = "loopback" // localhost may be ::1 for one site and 127.0.0.1 for the other
	}
	return host + "\x00" + r.UserAgent()[:min(len(r.UserAgent()), 512)]
}

// statusRecorder tells seen the status before it is sent. Everything else
// that the connection can do is reached through Unwrap.
type statusRecorder struct {
	http.ResponseWriter
	seen func(status int)
	sent bool
}

func (s *statusRecorder) WriteHeader(status int) {
	if !s.sent && status >= 200 {
		s.sent = true
		s.seen(status)
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *statusRecorder) Write(b []byte) (int, error) {
	if !s.sent {
		s.sent = true
		s.seen(http.StatusOK)
	}
	return s.ResponseWriter.Write(b)
}

func (s *statusRecorder) Unwrap() http.ResponseWriter { return s.ResponseWriter }

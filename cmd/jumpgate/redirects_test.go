package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"jumpgate/gateway/config"
	"jumpgate/gateway/proxy"
)

// misled is a gateway in front of a Moodle that answers the page /N with the Nth
// of some header fields, which lead to a trap.
func misled(t *testing.T, mode string, fields []string) (site string) {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if n, err := strconv.Atoi(r.URL.Path[1:]); err == nil && n < len(fields) {
			for field := range strings.SplitSeq(fields[n], "\n") {
				name, value, _ := strings.Cut(field, ": ")
				w.Header().Add(name, value)
			}
			if w.Header().Get("Location") != "" {
				w.WriteHeader(http.StatusSeeOther)
			}
		}
		io.WriteString(w, "<h1>A page of the Moodle</h1>")
	}))
	t.Cleanup(upstream.Close)
	l, err := proxy.Listen(t.Context(), "127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	site = fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
	dir := t.TempDir()
	file := filepath.Join(dir, "jumpgate.yaml")
	text := fmt.Sprintf("listen: %s\nstate_dir: state\nsites:\n  - {wwwroot: %q, upstream: %q, identity: {source: moodle-web}, redirects: {mode: %s}}\n", l.Addr(), site, upstream.URL, mode)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	g, err := newInstance(t.Context(), loaded, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)
	server := proxy.NewServer(g.handler, log)
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return site
}

// TestABrowserStaysWhereRedirectsAreEnforced has Chromium itself follow what it is
// sent.
func TestABrowserStaysWhereRedirectsAreEnforced(t *testing.T) {
	ctx := browser(t)
	caught := make(chan string, 100)
	trap := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/trap" {
			caught <- r.URL.RawQuery
		}
	}))
	t.Cleanup(trap.Close)
	host := strings.TrimPrefix(trap.URL, "http://")
	var fields []string
	for i, form := range []string{
		"Location: http://%s/trap", "Location: //%s/trap", `Location: /\%s/trap`, `Location: \\%s/trap`, "Location: /\t/%s/trap", "Location: ht\ttp://%s/trap",
		"Location: http:\\\\%s/trap", "Location: ///%s/trap", "Location: http://x@%s/trap", "Location: http:%s/trap", "Location: http:/%s/trap",
		"Location: /my/\nLocation: http://%s/trap", "Location: https://%s/trap",
		"Refresh: 0;url=http://%s/trap", "Refresh: 0; URL = '//%s/trap'", `Refresh: 0,"//%s/trap`, "Refresh: 0 //%s/trap",
		"Refresh: 5\nRefresh: url=//%s/trap", "Refresh: +0;url=//%s/trap", "Refresh: 0;url='http:'//%s/trap'",
		"Location: /my/\nRefresh: 0;url=//%s/trap", "Location: javascript:location='//%s/trap'",
	} {
		fields = append(fields, fmt.Sprintf(form, host)+fmt.Sprint("?", i))
	}
	heading := func(site string, n int) string {
		err := chromedp.Do(ctx, chromedp.Navigate(fmt.Sprintf("%s/%d", site, n)), chromedp.WaitReady(chromedp.CSS("h1")))
		if err != nil {
			t.Fatalf("%q: %v", fields[n], err)
		}
		at, err := chromedp.Run(ctx, chromedp.Location())
		if err != nil || !strings.HasPrefix(at, site+"/") {
			t.Errorf("%q: the address bar shows %s, %v", fields[n], at, err)
		}
		text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("h1")))
		if err != nil {
			t.Errorf("%q: %v", fields[n], err)
		}
		return text
	}
	site := misled(t, "enforce", fields)
	for n := range fields { // also "http:host", which is a path to this browser and not to all
		if text := heading(site, n); text != "We stopped this redirect" {
			t.Errorf("%q shows %q", fields[n], text)
		}
	}
	select {
	case n := <-caught:
		t.Errorf("the browser was led into the trap by field %s", n)
	default:
	}

	// Without that, the same fields are a trap.
	site = misled(t, "report", fields)
	for _, n := range []int{0, 4, 14} {
		_ = chromedp.Do(ctx, chromedp.Navigate(fmt.Sprintf("%s/%d", site, n))) // which the next redirect may cut off
		select {
		case <-caught:
		case <-time.After(10 * time.Second):
			t.Errorf("%q leads nowhere even where it is only reported", fields[n])
		}
	}
}

package moodle

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"jumpgate/gateway"
)

// behind is a Moodle below /moodle that answers with handler.
func behind(t *testing.T, handler http.HandlerFunc) *Behind {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	upstream, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	site, err := gateway.ParseWwwroot("https://home.example/moodle")
	if err != nil {
		t.Fatal(err)
	}
	return NewBehind(BehindOptions{Upstream: upstream, Site: site})
}

var (
	png  = "\x89PNG\r\n\x1a\n and so on"
	webp = "RIFF\x10\x00\x00\x00WEBPVP8 "
)

func TestPicture(t *testing.T) {
	const icon = "/moodle/pluginfile.php/11/user/icon/f1"
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/moodle/user/pix.php/3/f1.jpg":
				w.Header().Set("Location", to)
				w.WriteHeader(http.StatusSeeOther)
			case icon:
				io.WriteString(w, png+r.URL.RawQuery)
			default:
				t.Errorf("asked for %s", r.URL)
			}
		}
	}
	content := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) }
	}
	status := func(n int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(n) }
	}
	for name, test := range map[string]struct {
		moodle http.HandlerFunc
		kind   string // empty for no picture
		data   string
		err    string
	}{
		"where pix.php leads":             {redirect("https://home.example" + icon), "image/png", png, ""},
		"with a query":                    {redirect("https://home.example" + icon + "?rev=10"), "image/png", png + "rev=10", ""},
		"a relative redirect":             {redirect(icon), "image/png", png, ""},
		"at once":                         {content(webp), "image/webp", webp, ""},
		"the theme's":                     {redirect("https://home.example/moodle/theme/image.php/boost/core/1/u/f1"), "", "", ""},
		"none":                            {status(404), "", "", ""},
		"an error":                        {status(500), "", "", "status 500"},
		"a page instead":                  {content("<!doctype html><p>hello"), "", "", "it is text/html"},
		"an SVG, which may hold scripts":  {content(`<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>`), "", "", "it is text/xml"},
		"too large":                       {content(png + strings.Repeat("x", maxPicture)), "", "", "too large"},
		"redirect to another site":        {redirect("https://evil.example" + icon), "", "", "leads away"},
		"redirect without its scheme":     {redirect("//evil.example" + icon), "", "", "leads away"},
		"redirect to another scheme":      {redirect("http://home.example" + icon), "", "", "leads away"},
		"redirect with a user":            {redirect("https://x@home.example" + icon), "", "", "leads away"},
		"redirect out of the path":        {redirect("https://home.example/other/f1"), "", "", "leads away"},
		"redirect that climbs":            {redirect("https://home.example/moodle/../other/f1"), "", "", "leads away"},
		"redirect to nowhere":             {redirect(""), "", "", "leads away"},
		"redirect that is no address":     {redirect("http://[::1"), "", "", "leads away"},
		"redirect in a circle":            {redirect("/moodle/user/pix.php/3/f1.jpg"), "", "", "more than 3 redirects"},
		"redirect to a file of the theme": {redirect("/moodle/theme/f1.png"), "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			got, ok, err := behind(t, func(w http.ResponseWriter, r *http.Request) {
				asked++
				if r.Host != "home.example" || r.Header.Get("X-Forwarded-Proto") != "https" || r.Header.Get("Cookie") != "" {
					t.Errorf("asked for %s with %v", r.Host, r.Header)
				}
				test.moodle(w, r)
			}).Picture(t.Context(), 3, PictureLarge)
			if ok != (test.kind != "") || got.Type != test.kind || string(got.Data) != test.data || fmt.Sprint(err) != "<nil>" && test.err == "" || test.err != "" && !strings.Contains(fmt.Sprint(err), test.err) {
				t.Errorf("got %v %s %q, %v", ok, got.Type, got.Data, err)
			}
			if asked > 4 {
				t.Errorf("%d requests", asked)
			}
		})
	}
}

// certificate makes one that is good for a while.
func certificate(t *testing.T, life time.Duration) *gateway.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := gateway.ParseCertificateDER(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// networked is a Moodle with MNet: it shows a certificate and answers calls.
type networked struct {
	key         *gateway.Certificate
	shown       func(http.ResponseWriter) // instead of the certificate
	answer      func(http.ResponseWriter) // instead of a proper one
	asked, told atomic.Int32
}

func (n *networked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "GET /moodle/mnet/publickey.php":
		n.asked.Add(1)
		if n.shown != nil {
			n.shown(w)
			return
		}
		w.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.key.DER}))
	case "POST /moodle/mnet/xmlrpc/server.php":
		n.told.Add(1)
		if n.answer != nil {
			n.answer(w)
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/xml; charset=utf-8")
		fmt.Fprintf(w, "%s for %s", body, r.Header.Get("X-Forwarded-For"))
	default:
		http.NotFound(w, r)
	}
}

func TestPassCall(t *testing.T) {
	ours, another := certificate(t, time.Hour), certificate(t, time.Hour)
	soon := certificate(t, 30*time.Second)
	plain := func(status int, kind, body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for name, test := range map[string]struct {
		moodle *networked
		ours   *gateway.Certificate
		want   string
		err    string
		told   int32
	}{
		"the same key":               {&networked{key: ours}, ours, "<call> for 192.0.2.1", "", 1},
		"another key":                {&networked{key: another}, ours, "", "", 0},
		"the same key, which ends":   {&networked{key: soon}, soon, "", "", 0},
		"no MNet, as in Moodle 5":    {&networked{shown: plain(404, "text/html", "no such file")}, ours, "", "status 404", 0},
		"a page instead of a key":    {&networked{shown: plain(200, "text/html", "hello")}, ours, "", "no PEM certificate", 0},
		"an endless key":             {&networked{shown: plain(200, "text/plain", strings.Repeat("x", maxPublicKey+1))}, ours, "", "too large", 0},
		"an error page for the call": {&networked{key: ours, answer: plain(404, "text/html", "MNet is off")}, ours, "", "status 404", 1},
		"a page for the call":        {&networked{key: ours, answer: plain(200, "text/html", "hello")}, ours, "", `"text/html"`, 1},
		"an endless answer":          {&networked{key: ours, answer: plain(200, "text/xml", strings.Repeat("x", 101))}, ours, "", "too large", 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := behind(t, test.moodle.ServeHTTP)
			got, err := b.PassCall(t.Context(), test.ours, netip.MustParseAddr("::ffff:192.0.2.1"), []byte("<call>"), 100)
			if string(got) != test.want || (test.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %q, %v", got, err)
			}
			if test.moodle.told.Load() != test.told {
				t.Errorf("%d calls were passed", test.moodle.told.Load())
			}
		})
	}
}

func TestMoodlesKeyIsAskedForOnceAMinute(t *testing.T) {
	ours, another := certificate(t, time.Hour), certificate(t, time.Hour)
	synctest.Test(t, func(t *testing.T) {
		moodle := &networked{key: ours}
		site, err := gateway.ParseWwwroot("https://home.example/moodle")
		if err != nil {
			t.Fatal(err)
		}
		// synctest's clock begins in 2000.
		mine := *ours
		mine.NotAfter = time.Now().Add(24 * time.Hour)
		b := NewBehind(BehindOptions{Upstream: &url.URL{Scheme: "http", Host: "behind"}, Site: site, Transport: inMemory{moodle}})
		pass := func() (passed bool) {
			answer, err := b.PassCall(t.Context(), &mine, netip.Addr{}, []byte("<call>"), 100)
			if err != nil {
				t.Error(err)
			}
			return bytes.HasPrefix(answer, []byte("<call>"))
		}
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { pass() })
		}
		all.Wait()
		if n := moodle.asked.Load(); n != 1 || moodle.told.Load() != 10 {
			t.Errorf("10 calls asked %d times for the key, %d were passed", n, moodle.told.Load())
		}
		moodle.key = another
		if !pass() {
			t.Error("the key was asked for again within a minute")
		}
		time.Sleep(publicKeyFresh + time.Second)
		if pass() || moodle.asked.Load() != 2 {
			t.Error("the key was not asked for again after a minute")
		}
	})
}

// inMemory answers requests without a network.
type inMemory struct{ http.Handler }

func (m inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(time.Millisecond) // of a clock that is not the real one
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	return w.Result(), nil
}

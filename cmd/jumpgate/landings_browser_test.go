package main

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"jumpgate/gateway/moodletest"
)

// tab is a tab of a browser without cookies, at the demo.
type tab struct {
	t   *testing.T
	ctx context.Context
	s   scene
	sp  provider

	mu    sync.Mutex
	pages []string // requests for pages
}

// newTab opens one in a browser, which keeps no cookie of others there.
func newTab(t *testing.T, browser context.Context, s scene, sp provider) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	return open(t, ctx, s, sp)
}

// open returns the tab of a context.
func open(t *testing.T, ctx context.Context, s scene, sp provider) *tab {
	t.Helper()
	b := &tab{t: t, ctx: ctx, s: s, sp: sp}
	if err := chromedp.Listen(ctx, func(event any) {
		if asked, ok := event.(*network.EventRequestWillBeSent); ok && asked.Type == network.ResourceTypeDocument {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.pages = append(b.pages, asked.Request.URL)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return b
}

// another is a second tab of the same browser.
func (b *tab) another() *tab {
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	return open(b.t, ctx, b.s, b.sp)
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) *tab {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		at, _ := chromedp.Run(b.ctx, chromedp.Location())
		b.t.Fatalf("at %s: %v", at, err)
	}
	return b
}

// goes follows a link, and forgets how it came here.
func (b *tab) goes(link string) *tab {
	b.t.Helper()
	b.mu.Lock()
	b.pages = nil
	b.mu.Unlock()
	return b.do(chromedp.Navigate(link))
}

// asked returns for which pages the tab has asked since it followed a link.
func (b *tab) asked() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.pages)
}

func (b *tab) logsIn() *tab { b.t.Helper(); return b.do(fillIn(b.s)) }

func (b *tab) clicks(selector string) *tab {
	b.t.Helper()
	return b.do(chromedp.Click(chromedp.CSS(selector)))
}

func (b *tab) shows(selector string) *tab {
	b.t.Helper()
	return b.do(chromedp.WaitVisible(chromedp.CSS(selector)))
}

// says returns the text of the page.
func (b *tab) says() string {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS("body")))
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

func (b *tab) at() string {
	b.t.Helper()
	at, err := chromedp.Run(b.ctx, chromedp.Location())
	if err != nil {
		b.t.Fatal(err)
	}
	return at
}

// reads fails the test unless the tab is, or comes to be, at that address, and shows
// a post to a learner.
func (b *tab) reads(address, post, username string) *tab {
	b.t.Helper()
	b.shows("#" + post)
	if at := b.at(); at != address {
		b.t.Fatalf("at %s, want %s", at, address)
	}
	if text, want := b.says(), "Logged in as "+b.sp.account(b.s, username); !strings.Contains(text, want) {
		b.t.Fatalf("the page does not say %q:\n%s", want, text)
	}
	return b
}

// forgets ends the sessions of the tab's browser at the service provider, and keeps
// what it remembers otherwise.
func (b *tab) forgets() *tab {
	b.t.Helper()
	kept, err := chromedp.Call(b.ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{b.sp.Wwwroot}})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, cookie := range kept.Cookies {
		if strings.Contains(cookie.Name, "Session") || strings.Contains(cookie.Name, "session") {
			if _, err := chromedp.Call(b.ctx, network.DeleteCookies, network.DeleteCookiesParams{Name: cookie.Name, URL: b.sp.Wwwroot}); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	return b
}

// isOut fails the test unless nobody is logged in at the service provider.
func (b *tab) isOut() *tab {
	b.t.Helper()
	return b.goes(b.sp.post("p3")).shows("#homes")
}

// landingOf is an address by which another learner would land, in this browser.
func (b *tab) landingOf(username string) string {
	b.t.Helper()
	agent, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("navigator.userAgent"))
	if err != nil {
		b.t.Fatal(err)
	}
	v := newVisitor(b.t)
	v.userAgent = agent
	v.follow(b.s.IDP+"/login/index.php").login(username, b.s.Password)
	v.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r, err := http.NewRequest("GET", b.sp.DeepLink, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("User-Agent", agent)
	res, err := v.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	res.Body.Close()
	return res.Header.Get("Location")
}

// TestLandingsInABrowser is what learners do, in Chromium, at each kind of service
// provider.
func TestLandingsInABrowser(t *testing.T) {
	s := startDemo(t)
	chromium := browser(t)
	if err := chromedp.Do(chromium); err != nil { // it lives until this test ends
		t.Fatal(err)
	}
	for _, visit := range []struct {
		name string
		test func(b *tab)
	}{
		{"who is not logged in logs in on the way", anonymousInABrowser},
		{"who is logged in clicks on the mail", loggedInInABrowser},
		{"who comes without a link says where from, once", unknownHomeInABrowser},
		{"two tabs each end at their own post", twoTabsInABrowser},
		{"two tabs that ask where from each end at their own post", twoQuestionsInABrowser},
		{"a logout there is one at home", logoutThereInABrowser},
		{"a logout at home is one there", logoutAtHomeInABrowser},
		{"another account asks first", switchInABrowser},
		{"it works without script", withoutScriptInABrowser},
	} {
		for _, sp := range s.SPs {
			t.Run(visit.name+"/"+sp.Landing, func(t *testing.T) { visit.test(newTab(t, chromium, s, sp)) })
		}
	}
}

func anonymousInABrowser(b *tab) {
	b.goes(b.sp.DeepLink).logsIn().reads(b.sp.post("p3"), "p3", b.s.Username)
	if text := b.says(); !strings.Contains(text, "2 redirects: 1 from home, 1 from the forum.") {
		b.t.Errorf("the page counts the redirects otherwise:\n%s", text)
	}
}

func loggedInInABrowser(b *tab) {
	b.goes(b.s.IDP + "/login/index.php").logsIn().shows("#inbox")
	b.clicks(`a.button[href="`+b.sp.DeepLink+`"]`).reads(b.sp.post("p3"), "p3", b.s.Username)
	if text := b.says(); !strings.Contains(text, "2 redirects: 1 from home, 1 from the forum.") {
		b.t.Errorf("the page counts the redirects otherwise:\n%s", text)
	}
}

// The script of the page that asks lets the fragment travel inside the link, and
// afterwards redirects keep it.
func unknownHomeInABrowser(b *tab) {
	b.goes(b.sp.post("p3")).shows("#homes").clicks(`button[value="` + b.s.IDP + `"]`)
	b.logsIn().reads(b.sp.post("p3"), "p3", b.s.Username).forgets()
	next := strings.Replace(b.sp.post("p2"), "#", "&x=1#", 1)
	b.goes(next).reads(next, "p2", b.s.Username)
	if pages := b.asked(); len(pages) != 4 || !strings.HasPrefix(pages[1], b.s.IDP+"/auth/mnet/jump.php?") {
		b.t.Errorf("the home is not remembered: %q", pages)
	}
}

func twoTabsInABrowser(b *tab) {
	second := b.another()
	b.goes(b.sp.DeepLink).shows("#username")
	second.goes(strings.Replace(b.sp.DeepLink, "%23p3", "%23p2", 1)).shows("#username")
	b.logsIn().reads(b.sp.post("p3"), "p3", b.s.Username)
	second.logsIn().reads(b.sp.post("p2"), "p2", b.s.Username)
}

func twoQuestionsInABrowser(b *tab) {
	second := b.another()
	b.goes(b.sp.post("p3")).shows("#homes")
	second.goes(b.sp.post("p2")).shows("#homes")
	for _, one := range []*tab{b, second} {
		one.clicks(`button[value="` + b.s.IDP + `"]`).shows("#username")
	}
	second.logsIn().reads(b.sp.post("p2"), "p2", b.s.Username)
	b.logsIn().reads(b.sp.post("p3"), "p3", b.s.Username)
}

func logoutThereInABrowser(b *tab) {
	b.goes(b.sp.DeepLink).logsIn().reads(b.sp.post("p3"), "p3", b.s.Username)
	if b.sp.Landing == "jwt" {
		b.clicks(`form[action$="/jumpgate/logout"] button`).shows("button.main").clicks("button.main")
	} else {
		b.clicks(`.logininfo a[href*="/login/logout.php"]`)
	}
	if at := b.shows("#inbox").at(); at != b.s.IDP+"/" {
		b.t.Errorf("the logout led to %s", at)
	}
	b.isOut()
	b.goes(b.sp.DeepLink).shows("#username")
}

func logoutAtHomeInABrowser(b *tab) {
	b.goes(b.sp.DeepLink).logsIn().reads(b.sp.post("p3"), "p3", b.s.Username)
	b.goes(b.s.IDP + "/").clicks(`.logininfo a[href*="/login/logout.php"]`).shows(".logininfo a[href*='/login/index.php']")
	// The home tells in the background: the learner does not wait for it.
	for range 50 {
		if b.goes(b.sp.Wwwroot + discussion); !strings.HasPrefix(b.at(), b.sp.Wwwroot) || !strings.Contains(b.says(), "Logged in as") {
			break
		}
	}
	b.isOut()
}

func switchInABrowser(b *tab) {
	other := moodletest.SampleOther("").Username
	b.goes(b.sp.DeepLink).logsIn().reads(b.sp.post("p3"), "p3", b.s.Username)
	b.goes(b.landingOf(other)).shows(`button[value="stay"]`)
	if text := b.says(); !strings.Contains(text, "You are logged in here as Ada Lovelace") || !strings.Contains(text, "Mary Somerville") {
		b.t.Errorf("the page says\n%s", text)
	}
	b.clicks(`button[value="stay"]`).reads(b.sp.post("p3"), "p3", b.s.Username)
	b.goes(b.landingOf(other)).clicks(`button[value="switch"]`).reads(b.sp.post("p3"), "p3", other)
}

// Nobody but a script can tell the page that asks about the fragment.
func withoutScriptInABrowser(b *tab) {
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		b.t.Fatal(err)
	}
	b.goes(b.sp.post("p3")).shows("#homes")
	if page, err := chromedp.Run(b.ctx, chromedp.Value(chromedp.CSS("input[name=wantsurl]"))); err != nil || page != discussion {
		b.t.Fatalf("there is a script: %q, %v", page, err)
	}
	b.clicks(`button[value="` + b.s.IDP + `"]`).logsIn().shows("#p3")
	if at := b.at(); !slices.Contains([]string{b.sp.Wwwroot + discussion, b.sp.post("p3")}, at) {
		b.t.Errorf("ends on %s", at)
	}
	b.goes(b.sp.DeepLink).reads(b.sp.post("p3"), "p3", b.s.Username)
}

// TestABrowserWithoutCookiesIsToldSo follows each way in with a Chromium that keeps
// none: no page leads on by itself.
func TestABrowserWithoutCookiesIsToldSo(t *testing.T) {
	s := startDemo(t)
	chromium := preferring(t, `{"profile":{"default_content_setting_values":{"cookies":2}}}`)
	if err := chromedp.Do(chromium); err != nil { // it lives until this test ends
		t.Fatal(err)
	}
	for _, way := range []struct {
		name  string
		link  func(b *tab) string
		pages int  // requests until a page says so
		asks  bool // it is the page that asks where one comes from
	}{
		{"a jump at home", func(b *tab) string { return b.sp.DeepLink }, 2, false},
		{"a landing", func(b *tab) string { return b.landingOf(b.s.Username) }, 2, true},
		{"a page", func(b *tab) string { return b.sp.post("p3") }, 1, true},
	} {
		for _, sp := range s.SPs {
			t.Run(way.name+"/"+sp.Landing, func(t *testing.T) {
				b := newTab(t, chromium, s, sp)
				if !way.asks {
					b.goes(way.link(b)).refusesToGoOn(way.pages)
					if again, err := chromedp.Run(b.ctx, chromedp.AttributeValue(chromedp.CSS("a.main"), "href")); err != nil || again.Value != sp.DeepLink {
						t.Errorf("the way to try again is %q, %v", again.Value, err)
					}
					return
				}
				b.goes(way.link(b)).shows("#cookieless")
				if text := b.says(); !strings.Contains(text, noCookies) || len(b.asked()) != way.pages {
					t.Errorf("after %q the page says\n%s", b.asked(), text)
				}
				b.clicks(`button[value="` + s.IDP + `"]`).refusesToGoOn(way.pages + 1)
			})
		}
	}
}

const noCookies = "Your browser does not keep cookies"

// refusesToGoOn fails the test unless the tab shows the page about cookies, after
// that number of requests.
func (b *tab) refusesToGoOn(pages int) {
	b.t.Helper()
	if text := b.shows(".status").says(); !strings.Contains(text, noCookies) || len(b.asked()) != pages {
		b.t.Errorf("after %q the page says\n%s", b.asked(), text)
	}
}

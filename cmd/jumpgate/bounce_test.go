package main

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"jumpgate/gateway/moodletest"
)

// bouncing is a forum whose gateway sends learners home, and whose sessions can
// be taken away.
type bouncing struct {
	*crossroads
	redis *redisServer
}

func newBouncing(t *testing.T, site string) *bouncing {
	t.Helper()
	r := startRedis(t)
	return &bouncing{redis: r, crossroads: newCrossroads(t, "{source: moodle-web}", site, moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"})}
}

// forget ends all sessions of the forum.
func (b *bouncing) forget() {
	b.t.Helper()
	if err := b.redis.Client.FlushDB(context.Background()).Err(); err != nil {
		b.t.Fatal(err)
	}
}

// navigate asks for a page as a browser does.
func (v *visitor) navigate(link string) *visitor {
	v.t.Helper()
	return v.as(link, "Accept", "text/html,*/*;q=0.8", "Sec-Fetch-Dest", "document")
}

// chooses answers the page that asks where the learner comes from.
func (v *visitor) chooses(c *crossroads, home, wantsurl string) *visitor {
	v.t.Helper()
	if !strings.Contains(v.page, "Where do you come from?") {
		v.t.Fatalf("at %s nobody asks:\n%s", v.at, v.page)
	}
	form := url.Values{"home": {home}, "wantsurl": {wantsurl}}
	r, err := http.NewRequest("POST", c.forum+"/jumpgate/home", strings.NewReader(form.Encode()))
	if err == nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Accept", "text/html")
	}
	v.do(r, err)
	if on := departure.FindStringSubmatch(v.page); on != nil {
		v.navigate(html.UnescapeString(on[1]))
	}
	return v
}

// departure is where the page that follows a choice leads by itself.
var departure = regexp.MustCompile(`<a class="button main" href="([^"]+)">Continue</a>`)

// page is the address of a post, without its fragment.
const discussion = "/mod/forum/discuss.php?d=1"

func TestADeepLinkWithoutASessionEndsOnThePost(t *testing.T) {
	for _, issuer := range []string{"gateway", "moodle"} {
		t.Run(issuer, func(t *testing.T) {
			b := newBouncing(t, "bounce: auto\n    issuer: "+issuer)
			v := newVisitor(t)
			v.navigate(b.forum+discussion).chooses(b.crossroads, b.homes[0], discussion+"#p3")
			if v.login("ada", "pw"); v.at.String() != b.forum+discussion+"#p3" {
				t.Fatalf("ends on %s:\n%s", v.at, v.page)
			}
			b.forget()
			again := b.forum + discussion + "&x=1"
			v.navigate(again)
			if len(v.hops) != 3 || !strings.HasPrefix(v.hops[0], b.homes[0]+"/auth/mnet/jump.php?") || v.at.String() != again {
				t.Errorf("the way home and back: %q", v.hops)
			}
			v.isAt(b.crossroads, "ada")
		})
	}
}

func TestNobodyGoesInCircles(t *testing.T) {
	b := newBouncing(t, "bounce: auto")
	asked := func(what string, v *visitor, want string) {
		t.Helper()
		if !strings.Contains(v.page, "Where do you come from?") || !strings.Contains(v.page, want) {
			t.Errorf("%s: at %s after %q:\n%s", what, v.at, v.hops, v.page)
		}
	}
	const back = "and you came back without being logged in."

	// Moodle's cookie is not kept, ours are.
	v := newVisitor(t)
	v.client.Jar = &picky{v.client.Jar, func(u *url.URL, name string) bool { return u.Host != b.host() || name != "MoodleSession" }}
	v.follow(b.homes[0]+"/login/index.php").login("ada", "pw")
	v.navigate(b.forum+discussion).chooses(b.crossroads, b.homes[0], discussion)
	asked("chosen, without Moodle's cookie", v, back)
	v.navigate(b.forum + discussion + "&x=1")
	asked("sent, without Moodle's cookie", v, back)
	if len(v.hops) != 3 {
		t.Errorf("it went %q", v.hops)
	}

	// No cookie of the forum's is.
	v = newVisitor(t)
	v.client.Jar = &picky{v.client.Jar, func(u *url.URL, _ string) bool { return u.Host != b.host() }}
	v.follow(b.homes[0]+"/login/index.php").login("ada", "pw")
	v.navigate(b.forum + discussion)
	asked("without cookies", v, "")
	v.navigate(b.landing(0, "ada"))
	asked("landed, without cookies", v, "")
	if v.chooses(b.crossroads, b.homes[0], discussion); !strings.Contains(v.page, "Your browser does not keep cookies") {
		t.Errorf("without cookies: %s\n%s", v.at, v.page)
	}

	// The home does not log anybody in, and the learner goes back.
	v = newVisitor(t)
	v.navigate(b.forum+discussion).chooses(b.crossroads, b.homes[0], discussion)
	if v.at.Path != "/login/index.php" || "http://"+v.at.Host != b.homes[0] {
		t.Fatalf("the home shows %s", v.at)
	}
	v.navigate(b.forum + discussion)
	asked("back from the home", v, back)

	// An account of the forum itself.
	v.chooses(b.crossroads, b.forum, discussion)
	if v.login("grace", "pw"); v.at.String() != b.forum+discussion {
		t.Errorf("who logs in here ends on %s", v.at)
	}
	v.isAt(b.crossroads, "grace").logout(b.forum)
	if v.navigate(b.forum + discussion); v.at.Path != "/login/index.php" || v.at.Host != b.host() {
		t.Errorf("who has an account here is asked again: %s", v.at)
	}

	// After a logout.
	v = b.lands(0, "ada")
	v.logout(b.forum)
	v.navigate(b.forum + discussion)
	asked("after a logout", v, "You have just logged out here.")
}

func (b *bouncing) host() string { return strings.TrimPrefix(b.forum, "http://") }

// picky is a browser that keeps some cookies.
type picky struct {
	http.CookieJar
	keeps func(u *url.URL, name string) bool
}

func (p *picky) SetCookies(u *url.URL, cookies []*http.Cookie) {
	for _, c := range cookies {
		if p.keeps(u, c.Name) {
			p.CookieJar.SetCookies(u, []*http.Cookie{c})
		}
	}
}

// preferring starts a browser with preferences of Chromium's own.
func preferring(t *testing.T, preferences string) context.Context {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "Default"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "Default", "Preferences"), preferences)
	return browser(t, chromedp.UserDataDir(dir))
}

func asked() chromedp.Action[chromedp.Void] { return chromedp.WaitVisible(chromedp.CSS("#homes")) }

// picks clicks on a home.
func (b *bouncing) picks(home string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.CSS(fmt.Sprintf("button[value=%q]", home)))
}

// comes fails the test unless the steps end at the post on that page, logged in.
func (b *bouncing) comes(ctx context.Context, what, page, post string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	at, text := arrive(b.t, ctx, post, steps...)
	if want := b.forum + page + "#" + post; at != want || !strings.Contains(text, "Logged in as ada") {
		b.t.Errorf("%s: at %s, want %s\n%s", what, at, want, text)
	}
}

func TestBouncesInABrowser(t *testing.T) {
	ctx := browser(t)
	b := newBouncing(t, "bounce: auto")
	learner := scene{Username: "ada", Password: "pw"}

	// The script lets the fragment travel inside the link.
	b.comes(ctx, "unknown home, not logged in there", discussion, "p3", chromedp.Navigate(b.forum+discussion+"#p3"), asked(), b.picks(b.homes[0]), fillIn(learner))

	// Redirects keep it where the browser is logged in at home.
	b.forget()
	b.comes(ctx, "known home", discussion+"&x=1", "p2", chromedp.Navigate(b.forum+discussion+"&x=1#p2"))

	// By the keyboard alone: the home of last time has the focus.
	if err := chromedp.Do(ctx, chromedp.Navigate(b.forum+"/jumpgate/home?wantsurl="+url.QueryEscape(discussion+"&x=2#p2")), asked()); err != nil {
		t.Fatal(err)
	}
	b.comes(ctx, "the keyboard", discussion+"&x=2", "p2", chromedp.KeyEvent("\r"))

	b.forget()
	second, cancel := chromedp.NewContext(ctx)
	defer cancel()
	for post, tab := range map[string]context.Context{"p3": ctx, "p2": second} {
		if err := chromedp.Do(tab, chromedp.Navigate(b.forum+"/jumpgate/home?wantsurl="+url.QueryEscape(discussion+"#"+post)), asked()); err != nil {
			t.Fatal(err)
		}
	}
	b.comes(second, "the second of two tabs", discussion, "p2", b.picks(b.homes[0]))
	b.comes(ctx, "the first of two tabs", discussion, "p3", b.picks(b.homes[0]))
}

// A home may ask a login provider who it is, whose address we do not know, and
// Chromium applies form-action to every redirect that follows a form.
func TestAChoiceLeadsByALoginProvider(t *testing.T) {
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<h1 id=provider>Log in</h1>")
	}))
	defer provider.Close()
	home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, provider.URL+r.URL.RequestURI(), http.StatusSeeOther)
	}))
	defer home.Close()
	peers := t.TempDir()
	writeFile(t, filepath.Join(peers, "home.yaml"), fmt.Sprintf("{wwwroot: %q, fingerprint: 'SHA256:%064x', publish: [sso_sp], subscribe: [sso_idp]}\n", home.URL, 1))
	b := newBouncing(t, "bounce: auto\n    peers_dir: "+peers)
	ctx := browser(t)
	err := chromedp.Do(ctx, chromedp.Navigate(b.forum+discussion+"#p2"), asked(), b.picks(home.URL), chromedp.WaitVisible(chromedp.CSS("#provider")))
	if err != nil {
		t.Fatal(err)
	}
	want := provider.URL + "/auth/mnet/jump.php?hostwwwroot=" + url.QueryEscape(b.forum) + "&wantsurl=" + url.QueryEscape(discussion+"#p2")
	if at, err := chromedp.Run(ctx, chromedp.Location()); err != nil || at != want {
		t.Errorf("at %s, %v, want %s", at, err, want)
	}
}

func TestAHomeIsFoundByTheKeyboard(t *testing.T) {
	peers := t.TempDir()
	for i := range 9 {
		writeFile(t, filepath.Join(peers, fmt.Sprintf("%d.yaml", i)), fmt.Sprintf(
			"{wwwroot: 'https://college%d.invalid', name: College %d, fingerprint: 'SHA256:%064x', publish: [sso_sp], subscribe: [sso_idp]}\n", i, i, i+1))
	}
	b := newBouncing(t, "bounce: choose\n    peers_dir: "+peers)
	ctx := browser(t)
	shows := func(what string, want ...string) {
		t.Helper()
		got, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](
			`[document.activeElement.value, ...Array.from(document.querySelectorAll("#homes li:not([hidden]) b"), (b) => b.textContent)]`))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", what, got, err, want)
		}
	}
	err := chromedp.Do(ctx, chromedp.Navigate(b.forum+discussion+"#p2"), asked(), chromedp.KeyEvent("college 7"))
	if err != nil {
		t.Fatal(err)
	}
	shows("typed", "college 7", "College 7")
	if err := chromedp.Do(ctx, chromedp.KeyEvent("\b"), chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowDown)); err != nil {
		t.Fatal(err)
	}
	shows("two steps down", append([]string{"https://college1.invalid"}, colleges()...)...)
	host := strings.TrimPrefix(b.homes[1], "http://")
	home := strings.Repeat("\b", len("college ")) + host + "\r"
	b.comes(ctx, "typed, and Enter", discussion, "p2",
		chromedp.KeyEvent(kb.ArrowUp), chromedp.KeyEvent(kb.ArrowUp), chromedp.KeyEvent(home), fillIn(scene{Username: "ada", Password: "pw"}))
}

func colleges() (all []string) {
	for i := range 9 {
		all = append(all, fmt.Sprintf("College %d", i))
	}
	return all
}

func TestABouncedBrowserWithoutScript(t *testing.T) {
	ctx := preferring(t, `{"profile":{"default_content_setting_values":{"javascript":2}}}`)
	b := newBouncing(t, "bounce: auto")
	if err := chromedp.Do(ctx, chromedp.Navigate(b.forum+discussion+"#p3"), asked()); err != nil {
		t.Fatal(err)
	}
	if at, err := chromedp.Run(ctx, chromedp.Value(chromedp.CSS("input[name=wantsurl]"))); err != nil || at != discussion {
		t.Fatalf("there is a script: %q, %v", at, err)
	}
	ask := chromedp.Navigate(b.forum + "/jumpgate/home?search=" + strings.TrimPrefix(b.homes[1], "http://") + "&wantsurl=" + url.QueryEscape(discussion+"#p3"))
	b.comes(ctx, "a search", discussion, "p3", ask, asked(), b.picks(b.homes[1]), fillIn(scene{Username: "ada", Password: "pw"}))
	b.forget()
	b.comes(ctx, "known home", discussion+"&x=1", "p2", chromedp.Navigate(b.forum+discussion+"&x=1#p2"))
}

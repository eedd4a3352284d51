package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// browser starts headless Chromium, or skips the test where there is none.
func browser(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if strings.Contains(os.Getenv("JUMPGATE_REQUIRE"), "chromium") {
			t.Fatal("chromium is required (JUMPGATE_REQUIRE) and not installed")
		}
		t.Skip("chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.WindowSize(1280, 900))
	options = append(options, more...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("chromium: %v", err)
		}
		cancel()
	})
	return ctx
}

func fillIn(s scene) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(
		chromedp.WaitVisible(chromedp.CSS("#username")),
		chromedp.SetValue(chromedp.CSS("#username"), s.Username),
		chromedp.SetValue(chromedp.CSS("#password"), s.Password),
		chromedp.Click(chromedp.CSS("#loginbtn")),
	)
}

// arrive runs the steps and returns address and text of the page that shows
// the post with the given id in the end.
func arrive(t *testing.T, ctx context.Context, post string, steps ...chromedp.Action[chromedp.Void]) (at, text string) {
	t.Helper()
	err := chromedp.Do(ctx, append(steps, chromedp.WaitVisible(chromedp.CSS("#"+post)))...)
	if err == nil {
		at, err = chromedp.Run(ctx, chromedp.Location())
	}
	if err == nil {
		text, err = chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
	}
	if err != nil {
		t.Fatal(err)
	}
	return at, text
}

func TestALearnerReadsThePostInABrowser(t *testing.T) {
	ctx := browser(t)
	s := startDemo(t)
	for _, visit := range []struct {
		name  string
		steps []chromedp.Action[chromedp.Void]
	}{
		{"anonymous", []chromedp.Action[chromedp.Void]{chromedp.Navigate(s.DeepLink), fillIn(s)}},
		{"a click in the mail, logged in", []chromedp.Action[chromedp.Void]{
			chromedp.Navigate(s.IDP + "/"), chromedp.Click(chromedp.CSS(`a[href*="jump.php"]`))}},
	} {
		at, text := arrive(t, ctx, "p3", visit.steps...)
		if want := s.SP + "/mod/forum/discuss.php?d=1#p3"; at != want {
			t.Errorf("%s: the address is %s, want %s", visit.name, at, want)
		}
		if !strings.Contains(text, "Logged in as "+s.Username) || !strings.Contains(text, "2 redirects: 1 from home, 1 from the forum.") {
			t.Errorf("%s: the page says\n%s", visit.name, text)
		}
	}
}

func TestTwoTabsOfABrowserBothArrive(t *testing.T) {
	first := browser(t)
	s := startDemo(t)
	link := func(post string) string { return strings.Replace(s.DeepLink, "%23p3", "%23"+post, 1) }
	form := chromedp.WaitVisible(chromedp.CSS("#username"))
	if err := chromedp.Do(first, chromedp.Navigate(link("p3")), form); err != nil {
		t.Fatal(err)
	}
	second, cancel := chromedp.NewContext(first)
	defer cancel()
	if err := chromedp.Do(second, chromedp.Navigate(link("p2")), form); err != nil {
		t.Fatal(err)
	}
	for post, tab := range map[string]context.Context{"p3": first, "p2": second} {
		if at, _ := arrive(t, tab, post, fillIn(s)); at != s.SP+"/mod/forum/discuss.php?d=1#"+post {
			t.Errorf("the tab of %s ended on %s", post, at)
		}
	}
}

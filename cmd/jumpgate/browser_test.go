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
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
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

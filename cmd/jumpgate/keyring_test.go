package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
)

func TestTheLogTellsOfAConfiguredKeyThatReplacesAnother(t *testing.T) {
	home := wwwroot(t, "https://home.test")
	pair := filepath.Join(t.TempDir(), "pair.pem")
	key, err := mnet.NewKey(home, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pair, key.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	c, dir := &config.Config{Redis: &config.Redis{Embedded: true}}, t.TempDir()
	start := func(s *config.Site) string {
		t.Helper()
		var log bytes.Buffer
		g := &instance{log: slog.New(slog.NewTextHandler(&log, nil)), sites: map[gateway.Wwwroot]*standing{}}
		g.ctx, g.stop = context.WithCancel(t.Context())
		defer g.background.Wait()
		defer g.stop()
		if _, err := g.standing(c, s, dir, nil); err != nil {
			t.Fatal(err)
		}
		return log.String()
	}
	const changed = "the MNet key of the site has changed"
	if log := start(&config.Site{Wwwroot: home}); strings.Contains(log, changed) {
		t.Errorf("with its first key, the log is %s", log)
	}
	configured := &config.Site{Wwwroot: home, KeyFile: pair}
	if log := start(configured); !strings.Contains(log, changed) || !strings.Contains(log, "to="+key.Certificate().Fingerprint().String()) {
		t.Errorf("with another key, the log is %s", log)
	}
	if log := start(configured); strings.Contains(log, changed) {
		t.Errorf("with the same key again, the log is %s", log)
	}
}

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"jumpgate/gateway/config"
)

func TestWithMNetOffNobodyGoesAndNobodyIsAnswered(t *testing.T) {
	for _, issuer := range []string{"gateway", "moodle"} {
		t.Run("issuer "+issuer, func(t *testing.T) {
			behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "moodle")
			}))
			t.Cleanup(behind.Close)
			file := filepath.Join(t.TempDir(), "jumpgate.yaml")
			writeFile(t, file, fmt.Sprintf(`
state_dir: state
sites:
  - wwwroot: http://localhost
    upstream: %s
    issuer: %s
    identity: {source: moodle-web}
    mnet: {dispatcher: "off"}
    peers: [{wwwroot: "http://127.0.0.1:1"}]
`, behind.URL, issuer))
			loaded, err := config.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			g, err := newInstance(context.Background(), loaded, slog.New(slog.NewTextHandler(t.Output(), nil)))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(g.close)
			for _, test := range []struct {
				method, path string
				status       int
				says         string
			}{
				{"GET", "/auth/mnet/jump.php?hostwwwroot=http://127.0.0.1:1&wantsurl=/x", 403, "mnet-off"},
				{"GET", "/mnet/publickey.php", 404, "Networking is switched off"},
				{"POST", "/mnet/xmlrpc/server.php", 404, "Networking is switched off"},
				{"GET", "/course/view.php?id=2", 200, "moodle"},
			} {
				w := httptest.NewRecorder()
				g.handler.ServeHTTP(w, httptest.NewRequest(test.method, "http://localhost"+test.path, nil))
				if w.Code != test.status || !strings.Contains(w.Body.String(), test.says) {
					t.Errorf("%s %s: %d %.300s", test.method, test.path, w.Code, w.Body)
				}
			}
		})
	}
}

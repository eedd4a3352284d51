package mnet

import (
	"io"
	"net/http"
	"strconv"
)

// PublicKey serves the certificate of a site in PEM, as /mnet/publickey.php
// does (section 1).
func PublicKey(key func() *Key) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
			return
		}
		pem := key().Certificate().PEM()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(pem)))
		if r.Method == http.MethodGet {
			io.WriteString(w, pem)
		}
	})
}

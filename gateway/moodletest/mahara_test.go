package moodletest

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"jumpgate/gateway/mnet"
)

// record posts a document to a site.
func record(t *testing.T, site http.Handler, url string, doc []byte) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	site.ServeHTTP(w, httptest.NewRequest(http.MethodPost, url, bytes.NewReader(doc)))
	return w
}

// opened takes the envelopes, if there are any, off an answer to the recorded
// home.
func opened(t *testing.T, doc []byte) []byte {
	t.Helper()
	return []byte(open(t, http.StatusOK, doc, capturedKey(t, "idp"), capturedKey(t, "sp").Certificate()).Doc)
}

var _ = mnet.MaxBody

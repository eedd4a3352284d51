package moodle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime/multipart"
	"net/url"
	"strconv"
)

const (
	wsUpdatePicture = "core_user_update_picture"
	pageUpload      = "/webservice/upload.php"
)

// SetPicture gives a user a picture, PNG, in place of the one that they have. It
// needs a token of a web service that can upload files and has
// core_user_update_picture, whose user has webservice/rest:use and
// user:editprofile (source: webservice/upload.php, update_picture in
// user/externallib.php). Moodle does so for no administrator, nor for anybody
// whose profile is not to be edited here. Errors never contain the token.
func (w *Web) SetPicture(ctx context.Context, token string, userID int64, picture []byte) error {
	ctx, cancel := context.WithTimeout(ctx, webTimeout)
	defer cancel()
	draft, err := w.upload(ctx, token, picture)
	if err != nil {
		return fmt.Errorf("upload a picture: %w", err)
	}
	answer, err := w.rest(ctx, token, wsUpdatePicture, url.Values{
		"draftitemid": {strconv.FormatInt(draft, 10)}, "delete": {"0"}, "userid": {strconv.FormatInt(userID, 10)},
	})
	if err != nil {
		return err
	}
	var made struct{ Success bool }
	if err := json.Unmarshal(answer, &made); err != nil || !made.Success {
		return fmt.Errorf("%s: moodle does not say that it has made a picture of it", wsUpdatePicture)
	}
	return nil
}

// upload puts a picture into a new draft area of the token's user, and returns
// its number. Moodle empties such areas after some days.
func (w *Web) upload(ctx context.Context, token string, picture []byte) (draft int64, err error) {
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	file, err := parts.CreateFormFile("picture", "picture.png")
	if err == nil {
		_, err = file.Write(picture)
	}
	if err := errors.Join(err, parts.WriteField("token", token), parts.Close()); err != nil {
		return 0, err // into memory
	}
	answer, err := w.post(ctx, pageUpload, parts.FormDataContentType(), form.Bytes())
	if err != nil {
		return 0, err
	}
	var refused struct{ ErrorCode string }
	if json.Unmarshal(answer, &refused) == nil && refused.ErrorCode != "" {
		return 0, &wsException{pageUpload, refused.ErrorCode}
	}
	var files []struct {
		ItemID    int64
		ErrorType string
	}
	switch err := json.Unmarshal(answer, &files); {
	case err != nil || len(files) != 1:
		return 0, errors.New("the answer is not that of an upload")
	case files[0].ErrorType != "":
		return 0, &wsException{pageUpload, files[0].ErrorType}
	case files[0].ItemID <= 0:
		return 0, errors.New("the answer names no draft area")
	}
	return files[0].ItemID, nil
}

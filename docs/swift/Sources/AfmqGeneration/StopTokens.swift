import Foundation

/// The tokens that end a text by a model's configuration.
public enum StopTokens {
    /// The ids that `eos_token_id` of generation_config.json and config.json in a folder name, as
    /// one number or a list. Files that are missing name none.
    ///
    /// - Throws: What decoding a malformed file throws.
    public static func read(from folder: URL) throws -> Set<Int32> {
        var ids: Set<Int32> = []
        for name in ["generation_config.json", "config.json"] {
            let url = folder.appending(path: name)
            guard FileManager.default.fileExists(atPath: url.path) else { continue }
            let file = try JSONDecoder().decode(Configuration.self, from: Data(contentsOf: url))
            ids.formUnion(file.endOfText?.ids ?? [])
        }
        return ids
    }

    private struct Configuration: Decodable {
        let endOfText: Tokens?

        enum CodingKeys: String, CodingKey {
            case endOfText = "eos_token_id"
        }
    }

    private struct Tokens: Decodable {
        let ids: [Int32]

        init(from decoder: any Decoder) throws {
            let value = try decoder.singleValueContainer()
            if let list = try? value.decode([Int32].self) {
                ids = list
            } else {
                ids = [try value.decode(Int32.self)]
            }
        }
    }
}
